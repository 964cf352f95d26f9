package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// cases is what may happen: while all is well, and of what each alert is there to warn.
type cases struct {
	Well   []change         `json:"well"`
	Alerts map[string][]ill `json:"alerts"`
}

// ill is one thing of which an alert warns.
type ill struct {
	change
	// What one of its annotations is to say then, among other words.
	Says string `json:"says"`
}

// change is what becomes of series that were scraped: only what a process can really show.
type change struct {
	// Which, as queries select them; a histogram's series are called as one, without their suffixes.
	Series string `json:"series"`
	// A gauge has this value, a whole number as all of ours.
	Is *float64 `json:"is"`
	// A counter rises by so much a second more than before, or a histogram observes so often …
	Rises *float64 `json:"rises"`
	// … this value.
	Observes *float64 `json:"observes"`
	// It is not shown any more.
	Goes bool `json:"goes"`
}

func (c change) String() string {
	switch {
	case c.Goes:
		return c.Series + " goes"
	case c.Is != nil:
		return fmt.Sprintf("%s is %v", c.Series, *c.Is)
	case c.Rises != nil && c.Observes != nil:
		return fmt.Sprintf("%s observes %v, %v times a second", c.Series, *c.Observes, *c.Rises)
	case c.Rises != nil:
		return fmt.Sprintf("%s rises by %v a second", c.Series, *c.Rises)
	default:
		return c.Series
	}
}

func readCases(file string) (cases, error) {
	var read cases
	text, err := os.ReadFile(file)
	if err != nil {
		return read, err
	}
	if err := yaml.UnmarshalStrict(text, &read); err != nil {
		return read, fmt.Errorf("%s: %w", file, err)
	}
	return read, nil
}

// fit says which alert nobody knows how to bring about, and what is to bring about none.
func (c cases) fit(rules []rulefmt.Rule) error {
	var wrong []error
	known := map[string]bool{}
	for _, rule := range rules {
		known[rule.Alert] = true
		if len(c.Alerts[rule.Alert]) == 0 {
			wrong = append(wrong, fmt.Errorf("%s: an alert without a case", rule.Alert))
		}
	}
	for alert := range c.Alerts {
		if !known[alert] {
			wrong = append(wrong, fmt.Errorf("%s: a case without an alert", alert))
		}
	}
	return errors.Join(wrong...)
}

// after is what is shown once these changes have come about; what was there before stays as it was.
func after(metrics []metric, changes ...change) ([]metric, error) {
	now := slices.Clone(metrics)
	for _, change := range changes {
		var err error
		if now, err = change.to(now); err != nil {
			return nil, fmt.Errorf("%s: %w", change, err)
		}
	}
	return now, nil
}

func (c change) to(metrics []metric) ([]metric, error) {
	if c.Goes && (c.Is != nil || c.Rises != nil || c.Observes != nil) {
		return nil, errors.New("what goes has no value")
	}
	selector, err := parser.NewParser(parser.Options{}).ParseMetricSelector(c.Series)
	if err != nil {
		return nil, err
	}
	var changed []metric
	found := false
	for _, metric := range metrics {
		if metric.fits(selector) {
			found = true
			if c.Goes {
				continue
			}
			if metric, err = c.of(metric); err != nil {
				return nil, err
			}
		}
		changed = append(changed, metric)
	}
	if !found {
		return nil, errors.New("no such series was scraped")
	}
	return changed, nil
}

func (m metric) fits(selector []*labels.Matcher) bool {
	return !slices.ContainsFunc(selector, func(matcher *labels.Matcher) bool {
		value := m.labels.Get(matcher.Name)
		if matcher.Name == model.MetricNameLabel {
			value = m.name()
		}
		return !matcher.Matches(value)
	})
}

// of is what becomes of one series.
func (c change) of(m metric) (metric, error) {
	sets, rises, observes := c.Is != nil, c.Rises != nil, c.Observes != nil
	switch {
	case m.kind == model.MetricTypeGauge && sets && !rises && !observes:
		if *c.Is < 0 || *c.Is != math.Trunc(*c.Is) {
			return m, fmt.Errorf("a gauge of ours is a whole number, and never %v", *c.Is)
		}
		m.value = *c.Is
	case m.kind == model.MetricTypeCounter && rises && !sets && !observes:
		m.rises += *c.Rises
	case m.kind == model.MetricTypeHistogram && rises && observes && !sets:
		return c.observed(m)
	default:
		return m, fmt.Errorf("it is a %s: a gauge `is`, a counter `rises`, a histogram `rises` and `observes`", m.kind)
	}
	return m, nil
}

// observed is what becomes of one of the series of a histogram.
func (c change) observed(m metric) (metric, error) {
	switch m.labels.Get(model.MetricNameLabel) {
	case m.family + "_count":
		m.rises += *c.Rises
	case m.family + "_sum":
		m.rises += *c.Rises * *c.Observes
	case m.family + "_bucket":
		most, err := strconv.ParseFloat(m.labels.Get(model.BucketLabel), 64)
		if err != nil {
			return m, err
		}
		if *c.Observes <= most {
			m.rises += *c.Rises
		}
	}
	return m, nil
}
