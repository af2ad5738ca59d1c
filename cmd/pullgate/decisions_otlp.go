package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"

	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
)

const exportWithin = 10 * time.Second

// decisionExport sends decisions to where the OTEL_* variables say, and keeps
// the newest in memory. It waits for each batch to be taken, so that every
// decision that was not is counted.
type decisionExport struct {
	exporter sdklog.Exporter
	provider *sdklog.LoggerProvider
	logger   log.Logger
	batch    *emitted
	recentDecisions
}

func newDecisionExport(ctx context.Context) (*decisionExport, error) {
	if !telemetry.Wanted("LOGS") {
		return nil, errors.New(
			"decisions.to is otlp, and the environment does not say where: set OTEL_EXPORTER_OTLP_ENDPOINT, or " +
				"write another decisions.to",
		)
	}
	about, err := telemetry.Resource()
	if err != nil {
		return nil, err
	}
	exporter, err := autoexport.NewLogExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("start sending decisions: %w", err)
	}
	batch := &emitted{}
	provider := sdklog.NewLoggerProvider(sdklog.WithResource(about), sdklog.WithProcessor(batch))
	return &decisionExport{
		exporter: exporter,
		provider: provider,
		logger:   provider.Logger("github.com/pullgate/pullgate"),
		batch:    batch,
	}, nil
}

func (d *decisionExport) write(batch []recorded) (int, error) {
	d.keep(batch)
	ctx, cancel := context.WithTimeout(context.Background(), exportWithin)
	defer cancel()
	for i := range batch {
		d.logger.Emit(ctx, logRecord(&batch[i]))
	}
	records := d.batch.take()
	if err := d.exporter.Export(ctx, records); err != nil {
		return len(batch), fmt.Errorf("send decisions: %w", err)
	}
	return 0, nil
}

// logRecord carries the line as its body, and what one filters by as attributes.
func logRecord(one *recorded) log.Record {
	var r log.Record
	r.SetTimestamp(one.Time)
	r.SetObservedTimestamp(time.Now())
	r.SetEventName("pullgate.decision")
	r.SetSeverity(log.SeverityInfo)
	if one.Status != 200 {
		r.SetSeverity(log.SeverityWarn)
	}
	r.SetBody(attribute.StringValue(string(one.line[:len(one.line)-1])))
	r.AddAttributes(
		attribute.String("pullgate.decision", one.ID),
		attribute.String("pullgate.outcome", one.Outcome),
		attribute.String(
			"pullgate.image",
			one.Image,
		),
		attribute.String("pullgate.digest", one.Digest),
		attribute.String("pullgate.policy", one.Policy),
	)
	return r
}

func (d *decisionExport) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), decisionsCloseTime)
	defer cancel()
	return errors.Join(d.provider.Shutdown(ctx), d.exporter.Shutdown(ctx))
}

// emitted gathers the records of one batch. The SDK's own batching would drop
// some without a word.
type emitted struct{ records []sdklog.Record }

func (e *emitted) take() []sdklog.Record {
	records := e.records
	e.records = nil
	return records
}

// Enabled is always true.
func (e *emitted) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

// OnEmit runs on the one goroutine that writes.
func (e *emitted) OnEmit(_ context.Context, r *sdklog.Record) error {
	e.records = append(e.records, r.Clone())
	return nil
}

// Shutdown has nothing to do.
func (e *emitted) Shutdown(context.Context) error { return nil }

// ForceFlush has nothing to do.
func (e *emitted) ForceFlush(context.Context) error { return nil }
