// Walks the table of calls in Go: walk PLAN URI DIR. A line of JSON a step.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"libbackup.org/go/libbackup"
)

type option struct {
	Kind, Go string
	Value    any
}

type argument struct {
	Name, Kind string
	Value      json.RawMessage
}

type step struct {
	Call, On, Save, Go, Result string
	Args                       []argument
	All                        []argument
}

type getter struct{ Key, Go, Rule string }

type field struct{ C, Go string }

var plan struct {
	Steps   []step
	Handles map[string][]getter
	Structs map[string][]field
}

// functions are what is no method: Go cannot look these up by name.
var functions = map[string]any{
	"bak_connection_open":           libbackup.Open,
	"bak_connection_open_read_only": libbackup.OpenReadOnly,
	"bak_cancellation_new":          libbackup.CancellationNew,
	"bak_repository_create":         libbackup.RepositoryCreate,
	"bak_repository_open":           libbackup.RepositoryOpen,
	"bak_repository_default_url":    libbackup.RepositoryDefaultURL,
	"bak_job_state_to_string":       libbackup.JobStateToString,
	"bak_error_code_to_string":      libbackup.ErrorCodeToString,
	"bak_version_number":            libbackup.VersionNumber,
	"bak_version_string":            libbackup.VersionString,
}

var (
	uri, dir  string
	variables = map[string]reflect.Value{}
	isContext = reflect.TypeOf((*context.Context)(nil)).Elem()
	isError   = reflect.TypeOf((*error)(nil)).Elem()
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func variable(value any) (reflect.Value, bool) {
	text, _ := value.(string)
	found, ok := variables[strings.TrimPrefix(text, "$")]
	return found, ok && strings.HasPrefix(text, "$")
}

func text(value any) string {
	if found, ok := variable(value); ok {
		return found.String()
	}
	return strings.NewReplacer("$DIR", dir, "$URI", uri).Replace(value.(string))
}

// convert makes what a parameter or a field takes.
func convert(value any, kind reflect.Type) reflect.Value {
	made := reflect.New(kind).Elem()
	if value == nil {
		return made
	}
	if found, ok := variable(value); ok && found.Type() == kind {
		return found
	}
	switch kind.Kind() {
	case reflect.String:
		made.SetString(text(value))
	case reflect.Pointer:
		if kind.Elem().Kind() != reflect.String {
			panic(fmt.Sprint("no way to make a ", kind))
		}
		made.Set(reflect.ValueOf(libbackup.Text(text(value))))
	case reflect.Slice:
		if pairs, ok := value.(map[string]any); ok {
			for key, part := range pairs {
				item := reflect.New(kind.Elem()).Elem()
				item.Field(0).SetString(text(key))
				item.Field(1).SetString(text(part))
				made = reflect.Append(made, item)
			}
			break
		}
		for _, part := range value.([]any) {
			made = reflect.Append(made, convert(part, kind.Elem()))
		}
	case reflect.Uint, reflect.Uint64:
		made.SetUint(uint64(value.(float64)))
	default:
		made.SetInt(int64(value.(float64)))
	}
	return made
}

func options(raw json.RawMessage, kind reflect.Type) reflect.Value {
	var fields []option
	check(json.Unmarshal(raw, &fields))
	made := reflect.New(kind.Elem())
	for _, f := range fields {
		place := made.Elem().FieldByName(f.Go)
		place.Set(convert(f.Value, place.Type()))
	}
	return made
}

func failed(err error) any {
	var e *libbackup.Error
	if !errors.As(err, &e) {
		panic(err)
	}
	return []any{int(e.Code), e.Message}
}

// results calls a function and shows what comes back.
func results(function reflect.Value, in []reflect.Value, how string) (shown any, values []reflect.Value, err error) {
	kind := function.Type()
	if kind.NumIn() > len(in) && kind.In(0) == isContext {
		in = append([]reflect.Value{reflect.ValueOf(context.Background())}, in...)
	}
	values = function.Call(in)
	if n := len(values); n > 0 && kind.Out(n-1) == isError {
		if !values[n-1].IsNil() {
			return nil, nil, values[n-1].Interface().(error)
		}
		values = values[:n-1]
	}
	if how == "maybe" && values[0].Int() == 0 {
		return nil, values, nil
	} else if how == "maybe" {
		values = values[1:]
	}
	all := []any{}
	for _, value := range values {
		all = append(all, show(value, how))
	}
	if len(all) == 1 {
		return all[0], values, nil
	} else if len(all) == 0 {
		return nil, values, nil
	}
	return all, values, nil
}

func show(value reflect.Value, how string) any {
	switch value.Kind() {
	case reflect.String:
		if value.String() == "" {
			return nil
		}
		return value.String()
	case reflect.Bool:
		return value.Bool()
	case reflect.Slice:
		all := []any{}
		for i := 0; i < value.Len(); i++ {
			all = append(all, show(value.Index(i), "item"))
		}
		return all
	case reflect.Struct:
		made := map[string]any{}
		for _, f := range plan.Structs["Bak"+value.Type().Name()] {
			made[f.C] = show(value.FieldByName(f.Go), "")
		}
		return made
	case reflect.Pointer:
		if value.IsNil() {
			return nil
		} else if how == "property" {
			return true
		}
		made := map[string]any{}
		for _, g := range plan.Handles["Bak"+value.Type().Elem().Name()] {
			shown, _, err := results(value.MethodByName(g.Go), nil, g.Rule)
			if err != nil {
				shown = map[string]any{"error": failed(err)}
			}
			made[g.Key] = shown
		}
		return made
	case reflect.Uint, reflect.Uint64:
		return value.Uint()
	}
	return value.Int()
}

func run(s step) (any, error) {
	var function reflect.Value
	if s.On != "" {
		function = variables[s.On].MethodByName(s.Go)
	} else {
		function = reflect.ValueOf(functions[s.Call])
	}
	kind := function.Type()
	skip := 0
	if kind.NumIn() > 0 && kind.In(0) == isContext {
		skip = 1
	}
	in := []reflect.Value{}
	for i, a := range s.Args {
		wanted := kind.In(skip + i)
		if a.Kind == "options" {
			in = append(in, options(a.Value, wanted))
			continue
		}
		var value any
		check(json.Unmarshal(a.Value, &value))
		in = append(in, convert(value, wanted))
	}
	if skip == 1 {
		in = append([]reflect.Value{reflect.ValueOf(context.Background())}, in...)
	}
	how := ""
	for _, a := range s.All {
		if a.Kind == "out-struct" && s.Result == "number" {
			how = "maybe"
		}
	}
	shown, values, err := results(function, in, how)
	if err == nil && s.Save != "" {
		variables[s.Save] = values[0]
	}
	return shown, err
}

func main() {
	raw, err := os.ReadFile(os.Args[1])
	check(err)
	check(json.Unmarshal(raw, &plan))
	uri, dir = os.Args[2], os.Args[3]
	for _, s := range plan.Steps {
		line := map[string]any{"call": s.Call}
		if shown, err := run(s); err != nil {
			line["error"] = failed(err)
		} else {
			line["result"] = shown
		}
		raw, err := json.Marshal(line)
		check(err)
		fmt.Println(string(raw))
	}
}
