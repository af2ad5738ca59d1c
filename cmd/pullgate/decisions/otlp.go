package decisions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"

	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
)

// exportTime bounds how long one batch may take to be sent.
const exportTime = 10 * time.Second

// export sends decisions to where the OTEL_* variables say, and keeps the newest
// in memory. It waits until each batch has been taken, so that every decision
// that was not is counted.
type export struct {
	exporter sdklog.Exporter
	provider *sdklog.LoggerProvider
	logger   log.Logger
	batch    *emitted
	recent
}

func newExport(ctx context.Context) (*export, error) {
	if !telemetry.Wanted("LOGS") {
		return nil, errors.New("decisions.to is otlp, and the environment does not say where: " +
			"set OTEL_EXPORTER_OTLP_ENDPOINT, or write another decisions.to")
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
	return &export{
		exporter: exporter,
		provider: provider,
		logger:   provider.Logger("github.com/pullgate/pullgate"),
		batch:    batch,
	}, nil
}

func (x *export) write(batch []entry) (lost int, err error) {
	x.keep(batch)
	ctx, cancel := context.WithTimeout(context.Background(), exportTime)
	defer cancel()

	for i := range batch {
		x.logger.Emit(ctx, logRecord(&batch[i]))
	}
	if err := x.exporter.Export(ctx, x.batch.take()); err != nil {
		return len(batch), fmt.Errorf("send decisions: %w", err)
	}
	return 0, nil
}

// logRecord carries the line as its body, and as attributes what one filters by.
func logRecord(e *entry) log.Record {
	var r log.Record
	r.SetTimestamp(e.Time)
	r.SetObservedTimestamp(time.Now())
	r.SetEventName("pullgate.decision")
	r.SetSeverity(log.SeverityInfo)
	if e.Status != http.StatusOK {
		r.SetSeverity(log.SeverityWarn)
	}

	r.SetBody(attribute.StringValue(string(e.line[:len(e.line)-1])))
	r.AddAttributes(
		attribute.String("pullgate.decision", e.ID),
		attribute.String("pullgate.outcome", e.Outcome),
		attribute.String("pullgate.image", e.Image),
		attribute.String("pullgate.digest", e.Digest),
		attribute.String("pullgate.policy", e.Policy),
	)
	if e.ClientName != "" {
		r.AddAttributes(attribute.String("pullgate.client", e.ClientName))
	}
	return r
}

func (x *export) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return errors.Join(x.provider.Shutdown(ctx), x.exporter.Shutdown(ctx))
}

// emitted gathers the log records of one batch. The batching of the SDK would
// drop some without counting them.
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
