package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/template"
)

// warning is what becomes of one alert.
type warning struct {
	Of string `json:"of"`
	// What its expression gives while all is well: it would be pending.
	Well []string  `json:"well"`
	Ills []outcome `json:"ills"`
}

// outcome is what an alert makes of one thing of which it is to warn.
type outcome struct {
	Of string `json:"of"`
	// Its annotations, of each series that its expression gives.
	Says []string `json:"says"`
	// Why it would not warn as it should.
	Wrong []string `json:"wrong"`
}

func judgeAlerts(files []string) (any, error) {
	if len(files) != 3 {
		return nil, errors.New("usage: judge fires RULES.yaml CASES.yaml TARGETS.json")
	}
	rules, err := rules(files[0])
	if err != nil {
		return nil, err
	}
	cases, err := readCases(files[1])
	if err != nil {
		return nil, err
	}
	scraped, err := scrape(files[2])
	if err != nil {
		return nil, err
	}
	if err := cases.fit(rules); err != nil {
		return nil, fmt.Errorf("%s: %w", files[1], err)
	}
	well, err := after(scraped, cases.Well...)
	if err != nil {
		return nil, fmt.Errorf("%s: well: %w", files[1], err)
	}
	var wrong []error
	warnings := []warning{}
	for _, rule := range rules {
		quiet, _, err := open(well).ask(rule.Expr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rule.Alert, err)
		}
		verdict := warning{Of: rule.Alert, Well: []string{}, Ills: []outcome{}}
		for _, series := range quiet {
			verdict.Well = append(verdict.Well, fmt.Sprintf("%s %v", series.Metric, series.F))
		}
		for _, ill := range cases.Alerts[rule.Alert] {
			now, err := after(well, ill.change)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %s: %w", files[1], rule.Alert, err))
				continue
			}
			verdict.Ills = append(verdict.Ills, outcomeOf(rule, ill, open(now)))
		}
		warnings = append(warnings, verdict)
	}
	return warnings, errors.Join(wrong...)
}

func outcomeOf(rule rulefmt.Rule, ill ill, prometheus prometheus) outcome {
	verdict := outcome{Of: ill.String(), Says: []string{}, Wrong: []string{}}
	wrong := func(format string, words ...any) {
		verdict.Wrong = append(verdict.Wrong, fmt.Sprintf(format, words...))
	}
	series, _, err := prometheus.ask(rule.Expr)
	switch {
	case err != nil:
		wrong("%v", err)
	case len(series) == 0:
		wrong("its expression gives no series")
	}
	for _, one := range series {
		for _, name := range slices.Sorted(maps.Keys(rule.Annotations)) {
			said, err := filled(rule, rule.Annotations[name], one, prometheus)
			if err != nil {
				wrong("annotation %s: %v", name, err)
			}
			if strings.Contains(said, "<no value>") {
				wrong("annotation %s has a label or a value that is not there: %s", name, said)
			}
			verdict.Says = append(verdict.Says, said)
		}
	}
	isSaid := func(said string) bool { return strings.Contains(said, ill.Says) }
	if ill.Says == "" || !slices.ContainsFunc(verdict.Says, isSaid) {
		wrong("no annotation says %q", ill.Says)
	}
	return verdict
}

// filled is an annotation of one series as Prometheus' own rules fill it; a label that is not there is an error, and not nothing as there.
func filled(rule rulefmt.Rule, annotation string, series promql.Sample, prometheus prometheus) (string, error) {
	const names = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"
	query := func(_ context.Context, text string, _ time.Time) (promql.Vector, error) {
		vector, _, err := prometheus.ask(text)
		return vector, err
	}
	data := template.AlertTemplateData(series.Metric.Map(), nil, "", series)
	expander := template.NewTemplateExpander(
		context.Background(), names+annotation, "__alert_"+rule.Alert, data, model.TimeFromUnix(end.Unix()), query, &url.URL{}, []string{"missingkey=error"},
	)
	return expander.Expand()
}
