package policy

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
)

// Expression is a CEL expression over an in-toto statement, compiled and
// checked at load. It is immutable and safe for concurrent use.
type Expression struct {
	text    string
	program cel.Program
}

// Bounds on one expression: what it may say, and what evaluating it may cost
// in CEL's own units (about one per node visited; an exists() over the 2,000
// packages of an SBOM takes some 20,000).
const (
	maxExpression     = 16 << 10
	maxExpressionCost = 1_000_000
	interruptEvery    = 1000 // iterations of a comprehension between looks at the context
)

// Statement is what an expression sees of an attestation.
type Statement struct {
	Predicate     any    // as JSON decodes: maps, lists, strings, float64, bool, nil
	PredicateType string // URI
	Subject       []any  // of maps with name and digest
	Image         string // full repository name
	Digest        string // of the image that was asked for
}

// ParseExpression compiles an expression that is true or false. It knows
// predicate, predicateType, subject and image (image.name, image.digest).
func ParseExpression(text string) (*Expression, error) {
	switch {
	case text == "":
		return nil, errors.New("is empty: remove it, or say what must be true")
	case len(text) > maxExpression:
		return nil, fmt.Errorf("is %d bytes long: %d at most", len(text), maxExpression)
	}

	env, err := cel.NewEnv(
		cel.Variable("predicate", cel.DynType),
		cel.Variable("predicateType", cel.StringType),
		cel.Variable("subject", cel.ListType(cel.DynType)),
		cel.Variable("image", cel.MapType(cel.StringType, cel.StringType)),
		cel.CrossTypeNumericComparisons(true), // JSON has one kind of number
	)
	if err != nil {
		return nil, fmt.Errorf("CEL environment: %w", err)
	}

	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("does not compile: %w", err)
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("is of type %s: it must be true or false", t)
	}

	program, err := env.Program(
		ast,
		cel.CostLimit(maxExpressionCost),
		cel.InterruptCheckFrequency(interruptEvery),
		cel.EvalOptions(cel.OptOptimize),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot be used: %w", err)
	}
	return &Expression{text: text, program: program}, nil
}

// String is the expression as written.
func (e *Expression) String() string { return e.text }

// Holds returns nil if the expression is true of s, or an error that says why it
// is not. A field that is missing is an error, not false: has(predicate.x) asks
// for it. Evaluation ends with ctx, and at a bound on its cost.
func (e *Expression) Holds(ctx context.Context, s Statement) error {
	value, _, err := e.program.ContextEval(ctx, map[string]any{
		"predicate":     s.Predicate,
		"predicateType": s.PredicateType,
		"subject":       s.Subject,
		"image":         map[string]string{"name": s.Image, "digest": s.Digest},
	})

	switch {
	case err != nil:
		return fmt.Errorf("%.120q cannot be evaluated: %.200s", e.text, err.Error())
	case value == types.True:
		return nil
	case value == types.False:
		return fmt.Errorf("%.120q is false", e.text)
	}
	return fmt.Errorf("%.120q is neither true nor false", e.text)
}
