package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

const (
	// What was scraped once is told again so often, this far apart: a rate needs more than one sample.
	scrapes = 80
	between = 15 * time.Second
)

// When the first scrape was: any time will do.
var start = time.Unix(1_800_000_000, 0)

// answer is what Prometheus makes of one query.
type answer struct {
	// Where it stands: an alert's name, or a panel's title.
	Of     string `json:"of"`
	Query  string `json:"query"`
	Series int    `json:"series"`
	Error  string `json:"error,omitempty"`
	// Names in it that nobody exports.
	Unknown []string `json:"unknown"`
}

type query struct{ of, text string }

func judgeQueries(files []string) (any, error) {
	if len(files) < 3 {
		return nil, errors.New("usage: judge queries RULES.yaml DASHBOARD.json METRICS.txt…")
	}
	alerts, err := alerts(files[0])
	if err != nil {
		return nil, err
	}
	panels, err := panels(files[1])
	if err != nil {
		return nil, err
	}
	exported := map[string]bool{"up": true}
	scraped := &scraped{}
	for _, file := range files[2:] {
		if err := scraped.scrape(file, exported); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1_000_000, Timeout: time.Minute})
	answers := []answer{}
	for _, query := range append(alerts, panels...) {
		answers = append(answers, ask(engine, scraped, query, exported))
	}
	return answers, nil
}

// alerts reads rules with the checks of `promtool check rules`: templates of annotations too.
func alerts(file string) ([]query, error) {
	groups, failures := rulefmt.ParseFile(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.Default())
	if len(failures) > 0 {
		return nil, errors.Join(failures...)
	}
	var all []query
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			all = append(all, query{rule.Alert, rule.Expr})
		}
	}
	return all, nil
}

var variables = strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$cluster", ".*")

func panels(file string) ([]query, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct {
				Name  string
				Type  string
				Query any
			}
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var all []query
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			all = append(all, query{panel.Title, variables.Replace(target.Expr)})
		}
	}
	values := regexp.MustCompile(`^label_values\((.*), ([a-z_]+)\)$`)
	for _, variable := range dashboard.Templating.List {
		asked, ok := variable.Query.(map[string]any)
		if !ok {
			continue
		}
		parts := values.FindStringSubmatch(fmt.Sprint(asked["query"]))
		if parts == nil {
			return nil, fmt.Errorf("%s: variable %s asks %v", file, variable.Name, asked["query"])
		}
		all = append(all, query{"$" + variable.Name, fmt.Sprintf("count by (%s) (%s)", parts[2], variables.Replace(parts[1]))})
	}
	return all, nil
}

// scrape keeps what one process showed, with the labels that the chart's monitors add; counters and buckets rise.
func (all *scraped) scrape(file string, exported map[string]bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	pod := strings.TrimSuffix(filepath.Base(file), ".txt")
	added := []labels.Label{{Name: "namespace", Value: "shop"}, {Name: "pod", Value: pod}}
	if !strings.Contains(pod, "operator") {
		added = append(added, labels.Label{Name: "fulmar_cluster", Value: "orders"})
	}
	lines := textparse.NewOpenMetricsParser(text, labels.NewSymbolTable())
	rises := false
	keep := func(of labels.Labels, value float64, rises bool) {
		builder := labels.NewBuilder(of)
		for _, label := range added {
			builder.Set(label.Name, label.Value)
		}
		samples := make([]chunks.Sample, scrapes)
		for number := range samples {
			now := value
			if rises {
				now += value * float64(number)
			}
			samples[number] = sample{start.Add(time.Duration(number) * between).UnixMilli(), now}
		}
		all.series = append(all.series, storage.NewListSeries(builder.Labels(), samples))
	}
	for {
		entry, err := lines.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch entry {
		case textparse.EntryType:
			name, kind := lines.Type()
			rises = kind == model.MetricTypeCounter || kind == model.MetricTypeHistogram
			switch kind {
			case model.MetricTypeCounter:
				exported[string(name)+"_total"] = true
			case model.MetricTypeHistogram:
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					exported[string(name)+suffix] = true
				}
			default:
				exported[string(name)] = true
			}
		case textparse.EntrySeries:
			var of labels.Labels
			lines.Labels(&of)
			_, _, value := lines.Series()
			keep(of, value, rises)
		}
	}
	keep(labels.FromStrings(labels.MetricName, "up"), 1, false)
	return nil
}

func ask(engine *promql.Engine, database storage.Queryable, query query, exported map[string]bool) answer {
	verdict := answer{Of: query.of, Query: query.text, Unknown: []string{}}
	end := start.Add((scrapes - 1) * between)
	asked, err := engine.NewInstantQuery(context.Background(), database, nil, query.text, end)
	if err != nil {
		verdict.Error = err.Error()
		return verdict
	}
	defer asked.Close()
	parser.Inspect(asked.Statement().(*parser.EvalStmt).Expr, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok && !exported[selector.Name] {
			verdict.Unknown = append(verdict.Unknown, selector.Name)
		}
		return nil
	})
	result := asked.Exec(context.Background())
	if result.Err != nil {
		verdict.Error = result.Err.Error()
		return verdict
	}
	if vector, err := result.Vector(); err == nil {
		verdict.Series = len(vector)
	}
	return verdict
}
