package main

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

const (
	// What was scraped once is told again so often, this far apart: a rate needs more than one sample.
	scrapes = 80
	between = 15 * time.Second
)

// When the first scrape was, and the last one: any time will do.
var (
	start = time.Unix(1_800_000_000, 0)
	end   = start.Add((scrapes - 1) * between)
)

// store is in memory: Prometheus' own knows remote ones too, and is ten times as much to build.
type store struct{ series []storage.Series }

// told is what Prometheus has after all scrapes.
func told(metrics []metric) *store {
	all := &store{}
	for _, metric := range metrics {
		samples := make([]chunks.Sample, scrapes)
		for number := range samples {
			since := time.Duration(number) * between
			samples[number] = sample{start.Add(since).UnixMilli(), metric.value + metric.rises*since.Seconds()}
		}
		all.series = append(all.series, storage.NewListSeries(metric.labels, samples))
	}
	return all
}

func (all *store) Querier(_, _ int64) (storage.Querier, error) { return all, nil }

func (all *store) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var found []storage.Series
	for _, series := range all.series {
		fits := func(matcher *labels.Matcher) bool { return matcher.Matches(series.Labels().Get(matcher.Name)) }
		if !slices.ContainsFunc(matchers, func(matcher *labels.Matcher) bool { return !fits(matcher) }) {
			found = append(found, series)
		}
	}
	slices.SortFunc(found, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return &set{found: found}
}

func (all *store) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (all *store) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (all *store) Close() error { return nil }

type set struct {
	found []storage.Series
	next  int
}

func (s *set) Next() bool                        { s.next++; return s.next <= len(s.found) }
func (s *set) At() storage.Series                { return s.found[s.next-1] }
func (s *set) Err() error                        { return nil }
func (s *set) Warnings() annotations.Annotations { return nil }

// sample is one number at one moment.
type sample struct {
	at    int64
	value float64
}

func (s sample) T() int64                      { return s.at }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.value }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }
