package oci

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestCheckStrict(t *testing.T) {
	t.Parallel()
	const depth, tokens = 4, 40
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	keys := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`"%d":1`, i))
		}
		return strings.Join(list, ",")
	}
	for name, tt := range map[string]struct {
		json string
		want string // in the refusal; empty: accepted
	}{
		"object":                    {`{"a":1,"b":[true,false,null,"x",-1.5e3]}`, ""},
		"empty object":              {`{}`, ""},
		"number alone":              {`7`, ""},
		"string alone":              {`"x"`, ""},
		"null alone":                {`null`, ""},
		"blanks around it":          {" \t\r\n{} \t\r\n", ""},
		"a number nothing can hold": {`1e999999`, ""},

		"nothing":               {"", "unexpected EOF"},
		"blanks only":           {" \n", "unexpected EOF"},
		"cut in a string":       {`{"a`, "unexpected EOF"},
		"cut after a key":       {`{"a"`, "unexpected EOF"},
		"cut after a colon":     {`{"a":`, "unexpected EOF"},
		"cut after a value":     {`{"a":1`, ErrJSON.Error()},
		"cut after a comma":     {`{"a":1,`, ErrJSON.Error()},
		"cut list":              {`[1`, ErrJSON.Error()},
		"two values":            {`{}{}`, "follows"},
		"two numbers":           {`1 2`, "follows"},
		"bracket after it":      {`{}]`, "follows"},
		"brace after it":        {`[]}`, "follows"},
		"comma after it":        {`{},`, "follows"},
		"colon after it":        {`{}:`, "follows"},
		"NUL after it":          {"{}\x00", "follows"},
		"form feed after it":    {"{}\f", "follows"},
		"no-break space after":  {"{}\u00a0", "follows"},
		"tar after it":          {"{}" + strings.Repeat("\x00", 510), "follows"},
		"comment after it":      {`{} // x`, "follows"},
		"byte order mark":       {"\ufeff{}", ErrJSON.Error()},
		"UTF-16":                {"{\x00}\x00", ErrJSON.Error()},
		"comma before a brace":  {`{"a":1,}`, ErrJSON.Error()},
		"comma before bracket":  {`[1,]`, ErrJSON.Error()},
		"two commas":            {`[1,,2]`, ErrJSON.Error()},
		"no comma":              {`[1 2]`, ErrJSON.Error()},
		"wrong bracket":         {`[1}`, ErrJSON.Error()},
		"wrong brace":           {`{"a":1]`, ErrJSON.Error()},
		"no colon":              {`{"a" 1}`, ErrJSON.Error()},
		"key without quotes":    {`{a:1}`, ErrJSON.Error()},
		"key a number":          {`{1:1}`, ErrJSON.Error()},
		"key null":              {`{null:1}`, ErrJSON.Error()},
		"key an object":         {`{{}:1}`, ErrJSON.Error()},
		"single quotes":         {`{'a':1}`, ErrJSON.Error()},
		"NaN":                   {`NaN`, ErrJSON.Error()},
		"hexadecimal":           {`0x10`, ErrJSON.Error()},
		"leading zero":          {`01`, ErrJSON.Error()},
		"leading plus":          {`+1`, ErrJSON.Error()},
		"raw line end in text":  {"\"a\nb\"", ErrJSON.Error()},
		"unknown escape":        {`"\x41"`, ErrJSON.Error()},
		"invalid UTF-8, value":  {"{\"a\":\"\xff\"}", "UTF-8"},
		"invalid UTF-8, key":    {"{\"\xc3\x28\":1}", "UTF-8"},
		"overlong UTF-8":        {"{\"\xc0\xaf\":1}", "UTF-8"},
		"surrogate in UTF-8":    {"\"\xed\xa0\x80\"", "UTF-8"},
		"invalid UTF-8 after":   {"{}\xff", "UTF-8"},
		"two halves of nothing": {`{"\ud800":1,"\ud801":2}`, "twice"}, // both decode to U+FFFD

		"as deep as may be":             {nested(depth), ""},
		"one too deep":                  {nested(depth + 1), "too deeply"},
		"objects as deep as may be":     {`{"a":{"a":{"a":{"a":1}}}}`, ""},
		"objects one too deep":          {`{"a":{"a":{"a":{"a":{}}}}}`, "too deeply"},
		"deep in annotations":           {`{"annotations":` + nested(depth) + `}`, "too deeply"},
		"deep without an end":           {strings.Repeat("[", 1_000_000), "too deeply"},
		"as many parts as may be":       {"[" + strings.Repeat("1,", tokens-3) + "1]", ""},
		"one part too many":             {"[" + strings.Repeat("1,", tokens-2) + "1]", "too many parts"},
		"keys count, as many as may be": {`{` + keys(tokens/2-1) + `}`, ""},
		"keys count, one too many":      {`{` + keys(tokens/2) + `}`, "too many parts"},
		"brackets count":                {"[" + strings.Repeat("[],", tokens/2) + "[]]", "too many parts"},
		"many parts without an end":     {"[" + strings.Repeat("0,", 1_000_000), "too many parts"},
		"a key twice":                   {`{"a":1,"b":2,"a":3}`, "twice"},
		"a key twice, the same value":   {`{"a":1,"a":1}`, "twice"},
		"a key twice, escaped":          {`{"a":1,"\u0061":2}`, "twice"},
		"a key twice, deep inside":      {`{"x":[{"y":{"a":1,"a":2}}]}`, "twice"},
		"the empty key twice":           {`{"":1,"":2}`, "twice"},
		"one key in two objects":        {`[{"a":1},{"a":2}]`, ""},
		"one key at two levels":         {`{"a":{"a":1}}`, ""},
		"keys that differ in case":      {`{"ab":1,"aB":2}`, "twice"},
		"beyond ASCII":                  {`{"é":1,"É":2}`, "twice"},
		"a key and a long s":            {"{\"set\":1,\"\u017fet\":2}", "twice"},
		"a key and a Kelvin sign":       {"{\"key\":1,\"\u212aey\":2}", "twice"},
		"a Kelvin sign, escaped":        {`{"key":1,"\u212aey":2}`, "twice"},
		"sigma and final sigma":         {`{"σ":1,"ς":2}`, "twice"},
		"not folded: sharp s":           {`{"ss":1,"ß":2}`, ""},
		"not folded: dotless i":         {`{"i":1,"ı":2}`, ""},
		"not folded: composed accents":  {`{"\u00e9":1,"e\u0301":2}`, ""},

		"field in another case":        {`{"Layers":[]}`, "another case"},
		"field in capitals":            {`{"MANIFESTS":[]}`, "another case"},
		"field with a long s":          {"{\"layer\u017f\":[]}", "another case"},
		"field with a long s, escaped": {`{"manife\u017fts":[]}`, "another case"},
		"field with a Kelvin sign":     {"{\"doc\u212aer-reference\":\"\"}", "another case"},
		"field in another case, deep":  {`[[{"Digest":""}]]`, "another case"},
		"field, exact, and near it":    {`{"layers":[],"layer":[],"layers2":[]}`, ""},
		"every field, exact": {
			`{"schemaVersion":2,"mediaType":"","artifactType":"","config":{},"layers":[],"manifests":[],` +
				`"subject":{},"annotations":{},"critical":{},"optional":{}}`,
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := CheckStrict([]byte(tt.json), depth, tokens)
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			if !errors.Is(err, ErrJSON) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("refused with %q, want %q", err, tt.want)
			}
		})
	}
}

// The keys of annotation maps and of a predicate are data: they differ when
// their bytes differ, and may look like field names.
func TestDataKeys(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"annotations", "optional", "predicate"} {
		for name, tt := range map[string]struct {
			value string
			ok    bool
		}{
			"keys that differ in case":    {`{"env":1,"Env":2,"ENV":3}`, true},
			"field names in another case": {`{"Digest":1,"LAYERS":2,"layers":3}`, true},
			"letters that fold":           {"{\"key\":1,\"\u212aey\":2}", true},
			"inside an object":            {`{"x":{"env":1,"Env":2,"Digest":3}}`, true},
			"inside a list":               {`[{"env":1,"Env":2}]`, true},
			"a key twice":                 {`{"env":1,"env":2}`, false},
			"a key twice, escaped":        {`{"env":1,"\u0065nv":2}`, false},
			"a key twice, inside":         {`{"x":[{"env":1,"env":2}]}`, false},
		} {
			for _, document := range []string{
				`{"` + where + `":` + tt.value + `}`,
				`{"a":[{"` + where + `":` + tt.value + `}]}`,
			} {
				if err := CheckStrict([]byte(document), 16, 1000); (err == nil) != tt.ok {
					t.Errorf("%s: %s: %v", name, document, err)
				}
			}
		}
		// What follows the map is field names again.
		if err := CheckStrict([]byte(`{"`+where+`":{"A":1,"a":2},"Layers":[]}`), 16, 1000); err == nil {
			t.Errorf("after %s a field in another case is accepted", where)
		}
		if err := CheckStrict(
			[]byte(`{"`+strings.ToUpper(where[:1])+where[1:]+`":{"Digest":1,"digest":2}}`),
			16,
			1000,
		); err == nil {
			t.Errorf("%s in another case makes its keys data", where)
		}
	}
}

func TestQuotedKeys(t *testing.T) {
	t.Parallel()
	key := `\n\u001b[31m` + strings.Repeat("x", 10_000)
	err := CheckStrict([]byte(`{"`+key+`":1,"`+key+`":2}`), 4, 40)
	if err == nil || len(err.Error()) > 200 || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("%q", err)
	}
}
