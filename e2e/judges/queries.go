package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

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
	if len(files) != 3 {
		return nil, errors.New("usage: judge queries RULES.yaml DASHBOARD.json TARGETS.json")
	}
	rules, err := rules(files[0])
	if err != nil {
		return nil, err
	}
	var queries []query
	for _, rule := range rules {
		queries = append(queries, query{rule.Alert, rule.Expr})
	}
	panels, err := panels(files[1])
	if err != nil {
		return nil, err
	}
	metrics, err := scrape(files[2])
	if err != nil {
		return nil, err
	}
	exported := map[string]bool{}
	for at, metric := range metrics {
		exported[metric.labels.Get(model.MetricNameLabel)] = true
		if metric.kind == model.MetricTypeCounter || metric.kind == model.MetricTypeHistogram {
			metrics[at].rises = metric.value / between.Seconds()
		}
	}
	prometheus := open(metrics)
	answers := []answer{}
	for _, query := range append(queries, panels...) {
		answers = append(answers, answered(prometheus, query, exported))
	}
	return answers, nil
}

// rules reads a file of them with the checks of `promtool check rules`: templates of annotations too.
func rules(file string) ([]rulefmt.Rule, error) {
	groups, failures := rulefmt.ParseFile(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.Default())
	if len(failures) > 0 {
		return nil, errors.Join(failures...)
	}
	var all []rulefmt.Rule
	for _, group := range groups.Groups {
		all = append(all, group.Rules...)
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

// prometheus answers queries from what it has after all scrapes.
type prometheus struct {
	engine *promql.Engine
	store  *store
}

func open(metrics []metric) prometheus {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1_000_000, Timeout: time.Minute})
	return prometheus{engine, told(metrics)}
}

// ask gives the answer, if it is series and no number, and what was asked as it was understood, if it was.
func (p prometheus) ask(text string) (promql.Vector, parser.Expr, error) {
	asked, err := p.engine.NewInstantQuery(context.Background(), p.store, nil, text, end)
	if err != nil {
		return nil, nil, err
	}
	defer asked.Close()
	understood := asked.Statement().(*parser.EvalStmt).Expr
	result := asked.Exec(context.Background())
	if result.Err != nil {
		return nil, understood, result.Err
	}
	vector, ok := result.Value.(promql.Vector)
	if !ok {
		return nil, understood, nil
	}
	return append(promql.Vector{}, vector...), understood, nil
}

func answered(prometheus prometheus, query query, exported map[string]bool) answer {
	verdict := answer{Of: query.of, Query: query.text, Unknown: []string{}}
	series, understood, err := prometheus.ask(query.text)
	if err != nil {
		verdict.Error = err.Error()
	}
	if understood != nil {
		parser.Inspect(understood, func(node parser.Node, _ []parser.Node) error {
			if selector, ok := node.(*parser.VectorSelector); ok && !exported[selector.Name] {
				verdict.Unknown = append(verdict.Unknown, selector.Name)
			}
			return nil
		})
	}
	verdict.Series = len(series)
	return verdict
}
