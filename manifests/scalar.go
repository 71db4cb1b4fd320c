package manifests

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The types of YAML values, in the words used in findings.
const (
	typeNothing = "nothing"
	typeString  = "string"
	typeInteger = "integer"
	typeNumber  = "number"
	typeBoolean = "boolean"
	typeList    = "list"
	typeMapping = "mapping"
)

// boolWords are the plain words that the YAML 1.1 reader of Kubernetes takes
// for booleans beside true and false.
var boolWords = map[string]bool{
	"y": true, "Y": true, "yes": true, "Yes": true, "YES": true, "on": true, "On": true, "ON": true,
	"n": false, "N": false, "no": false, "No": false, "NO": false, "off": false, "Off": false, "OFF": false,
}

const quoted = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

// typeOf says what a node is, as Kubernetes reads it.
func typeOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return typeMapping
	case yaml.SequenceNode:
		return typeList
	}
	switch n.ShortTag() {
	case "!!null":
		return typeNothing
	case "!!bool":
		return typeBoolean
	case "!!int":
		return typeInteger
	case "!!float":
		return typeNumber
	}
	if _, ok := boolWords[n.Value]; ok && n.Style&(quoted|yaml.TaggedStyle) == 0 {
		return typeBoolean
	}
	return typeString
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// scalar reads a value that is no mapping and no list into v, and appends it
// to the JSON. It reports whether it could.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, p *plan, at int32) bool {
	typ := typeOf(n)
	switch p.form {
	case formString:
		return d.text(n, typ, at, func() { v.SetString(n.Value); d.appendString(n.Value) })
	case formBytes:
		return d.text(n, typ, at, func() { d.base64(n, v, at) })
	case formText:
		return d.text(n, typ, at, func() { d.ownText(n, v, p, at) })
	case formBool:
		return d.boolean(n, typ, v, at)
	case formInt:
		return d.integer(n, typ, v, at)
	case formQuantity:
		return d.quantity(n, typ, v, at)
	case formIntOrString:
		return d.intOrString(n, typ, v, at)
	case formList:
		d.expected(n, at, typeList)
	default:
		d.expected(n, at, typeMapping)
	}
	return false
}

// text accepts a string and refuses what only looks like one.
func (d *decoder) text(n *yaml.Node, typ string, at int32, accept func()) bool {
	switch typ {
	case typeString:
		accept()
		return true
	case typeBoolean, typeInteger, typeNumber:
		suggestion := "write " + strconv.Quote(n.Value)
		if d.hidden(at) {
			suggestion = "put it in quotes"
		}
		d.report(n, Diagnostic{Code: codeUnquoted, Message: d.about(at) + "expected string, found " + typ + d.shown(n, at), Suggestion: suggestion})
	default:
		d.expected(n, at, typeString)
	}
	return false
}

func (d *decoder) boolean(n *yaml.Node, typ string, v reflect.Value, at int32) bool {
	if typ != typeBoolean {
		d.expectedUnquoted(n, typ, at, typeBoolean, n.Value == "true" || n.Value == "false")
		return false
	}
	b, known := boolWords[n.Value]
	if !known {
		b = strings.EqualFold(n.Value, "true")
	}
	v.SetBool(b)
	d.json = strconv.AppendBool(d.json, b)
	return true
}

func (d *decoder) integer(n *yaml.Node, typ string, v reflect.Value, at int32) bool {
	i, ok := int64(0), false
	switch typ {
	case typeInteger:
		i, ok = parseInt(n.Value)
	case typeNumber: // 1e3 and 2.0 are integers to Kubernetes
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			i, ok = int64(f), true
		} else {
			d.expected(n, at, typeInteger)
			return false
		}
	default:
		_, isInt := parseInt(n.Value)
		d.expectedUnquoted(n, typ, at, typeInteger, isInt)
		return false
	}
	if !ok || v.OverflowInt(i) {
		d.report(n, Diagnostic{Code: codeBadValue, Message: d.about(at) + n.Value + " is too big for a " + strconv.Itoa(v.Type().Bits()) + " bit integer"})
		return false
	}
	v.SetInt(i)
	d.json = strconv.AppendInt(d.json, i, 10)
	return true
}

// parseInt reads an integer in any of YAML's bases.
func parseInt(s string) (int64, bool) {
	i, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 0, 64)
	return i, err == nil
}

func (d *decoder) quantity(n *yaml.Node, typ string, v reflect.Value, at int32) bool {
	s := n.Value
	switch typ {
	case typeInteger:
		if i, ok := parseInt(s); ok {
			s = strconv.FormatInt(i, 10)
		}
	case typeNumber, typeString:
	default:
		d.expected(n, at, "quantity")
		return false
	}
	q, err := resource.ParseQuantity(s)
	if err != nil {
		d.report(n, Diagnostic{Code: codeBadValue, Message: d.about(at) + strconv.Quote(n.Value) + " is no quantity", Suggestion: quantityHint(n.Value)})
		return false
	}
	v.Set(reflect.ValueOf(q))
	d.appendString(v.Addr().Interface().(*resource.Quantity).String())
	return true
}

func (d *decoder) intOrString(n *yaml.Node, typ string, v reflect.Value, at int32) bool {
	var is intstr.IntOrString
	switch typ {
	case typeInteger:
		i, ok := parseInt(n.Value)
		if !ok || i != int64(int32(i)) {
			d.report(n, Diagnostic{Code: codeBadValue, Message: d.about(at) + n.Value + " is too big for a 32 bit integer"})
			return false
		}
		is = intstr.FromInt32(int32(i))
		d.json = strconv.AppendInt(d.json, i, 10)
	case typeString:
		is = intstr.FromString(n.Value)
		d.appendString(n.Value)
	default:
		d.expected(n, at, "integer or string")
		return false
	}
	v.Set(reflect.ValueOf(is))
	return true
}

func (d *decoder) base64(n *yaml.Node, v reflect.Value, at int32) {
	data, err := base64.StdEncoding.DecodeString(n.Value)
	if err != nil {
		suggestion := ""
		if d.secret {
			suggestion = "put plain text under stringData"
		}
		d.report(n, Diagnostic{Code: codeBadValue, Message: d.about(at) + "the value is not base64", Suggestion: suggestion})
		return
	}
	v.SetBytes(data)
	d.appendString(base64.StdEncoding.EncodeToString(data))
}

// ownText reads a type that decodes itself from a JSON string.
func (d *decoder) ownText(n *yaml.Node, v reflect.Value, p *plan, at int32) {
	target, ok := v.Addr().Interface().(json.Unmarshaler)
	text, _ := json.Marshal(n.Value)
	if !ok || target.UnmarshalJSON(text) != nil {
		word := strings.ToLower(p.typ.Name())
		d.report(n, Diagnostic{Code: codeBadValue, Message: d.about(at) + strconv.Quote(n.Value) + " is no " + strings.TrimPrefix(word, "micro")})
		return
	}
	canonical, err := json.Marshal(target)
	if err != nil {
		canonical = text
	}
	d.json = append(d.json, canonical...)
}

// zero appends what Kubernetes makes of a null under a map key or in a list,
// where it does not mean absent.
func (d *decoder) zero(p *plan) {
	switch p.form {
	case formStruct, formMap:
		d.json = append(d.json, "{}"...)
	case formList:
		d.json = append(d.json, "[]"...)
	case formBool:
		d.json = append(d.json, "false"...)
	case formInt, formIntOrString:
		d.json = append(d.json, '0')
	case formQuantity:
		d.json = append(d.json, `"0"`...)
	default:
		d.json = append(d.json, `""`...)
	}
}

func (d *decoder) appendString(s string) { d.json = appendJSONString(d.json, s) }

// appendJSONString appends a string as encoding/json writes it.
func appendJSONString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // a string cannot fail
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
