package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// judged is what somebody makes of one object.
type judged struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Status  string `json:"status"`
	Message string `json:"message"`
}

// objects reads all YAML or JSON documents of the files.
func objects(files []string) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
		for {
			object := &unstructured.Unstructured{}
			err := documents.Decode(object) // not its map: numbers would become floats
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if len(object.Object) > 0 {
				all = append(all, object)
			}
		}
	}
	return all, nil
}

func judgeByKstatus(files []string) ([]judged, error) {
	all, err := objects(files)
	if err != nil {
		return nil, err
	}
	verdicts := []judged{}
	for _, object := range all {
		result, err := status.Compute(object)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		verdicts = append(verdicts, judged{object.GetKind(), object.GetName(), result.Status.String(), result.Message})
	}
	return verdicts, nil
}

// judgeByLua runs a health check as Argo CD does: its interpreter, only the libraries that it opens, the object as `obj`.
func judgeByLua(script string, files []string) ([]judged, error) {
	code, err := os.ReadFile(script)
	if err != nil {
		return nil, err
	}
	all, err := objects(files)
	if err != nil {
		return nil, err
	}
	verdicts := []judged{}
	for _, object := range all {
		verdict, err := health(string(code), object)
		if err != nil {
			return nil, fmt.Errorf("%s of %s %s: %w", script, object.GetKind(), object.GetName(), err)
		}
		verdicts = append(verdicts, verdict)
	}
	return verdicts, nil
}

func health(code string, object *unstructured.Unstructured) (judged, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.StringLibName, lua.OpenString},
		{lua.MathLibName, lua.OpenMath},
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(library.open), Protect: true}, lua.LString(library.name)); err != nil {
			return judged{}, err
		}
	}
	state.SetGlobal("obj", toLua(state, object.Object))
	if err := state.DoString(code); err != nil {
		return judged{}, err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return judged{}, fmt.Errorf("it returned %s and no table", state.Get(-1).Type())
	}
	text := func(key string) string {
		if value, ok := answer.RawGetString(key).(lua.LString); ok {
			return string(value)
		}
		return ""
	}
	switch text("status") {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown":
	default:
		return judged{}, fmt.Errorf("status %q is none that Argo CD knows", text("status"))
	}
	return judged{object.GetKind(), object.GetName(), text("status"), text("message")}, nil
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, below := range value {
			table.RawSetString(key, toLua(state, below))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, below := range value {
			table.Append(toLua(state, below))
		}
		return table
	case string:
		return lua.LString(value)
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	default:
		return lua.LNil
	}
}
