package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// target is one process that was scraped, as Prometheus writes it in a file of targets (file_sd): what it showed is in a file, which
// stands in the place of its address.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// metric is one series as a process showed it once, with the labels of its target.
type metric struct {
	labels labels.Labels
	// The name in its TYPE: of a histogram's series without their suffix.
	family string
	kind   model.MetricType
	value  float64
	// How much a second, from then on.
	rises float64
}

// name is what queries call it; a histogram's series together are called as their family.
func (m metric) name() string {
	if m.kind == model.MetricTypeHistogram {
		return m.family
	}
	return m.labels.Get(model.MetricNameLabel)
}

// scrape reads what all targets showed, and adds what Prometheus itself knows of each: that it is up.
func scrape(file string) ([]metric, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var targets []target
	if err := json.Unmarshal(text, &targets); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var all []metric
	for _, target := range targets {
		for _, shown := range target.Targets {
			metrics, err := read(shown)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", shown, err)
			}
			up := labels.FromStrings(model.MetricNameLabel, "up")
			metrics = append(metrics, metric{labels: up, family: "up", kind: model.MetricTypeGauge, value: 1})
			for _, metric := range metrics {
				builder := labels.NewBuilder(metric.labels)
				for name, value := range target.Labels {
					// Prometheus would call it exported_NAME.
					if metric.labels.Has(name) {
						return nil, fmt.Errorf("%s: %s has the label %s, which its target adds", shown, metric.labels, name)
					}
					builder.Set(name, value)
				}
				metric.labels = builder.Labels()
				all = append(all, metric)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no target", file)
	}
	return all, nil
}

// read is what one process showed.
func read(file string) ([]metric, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	lines := textparse.NewOpenMetricsParser(text, labels.NewSymbolTable())
	var all []metric
	family, kind := "", model.MetricTypeUnknown
	for {
		entry, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		switch entry {
		case textparse.EntryType:
			name, of := lines.Type()
			family, kind = string(name), of
		case textparse.EntrySeries:
			var of labels.Labels
			lines.Labels(&of)
			_, _, value := lines.Series()
			all = append(all, metric{labels: of, family: family, kind: kind, value: value})
		}
	}
}
