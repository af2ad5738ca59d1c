package policy

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// inlineKey is the Source of a key written into the policy.
const inlineKey = "inline"

// maxKeyPath bounds the name of a key file, in bytes.
const maxKeyPath = 4096

// addKey reads what one key of an authority holds; v is called as the authority
// is. keys are the policy's so far, by ID or reference.
func (l *loader) addKey(a *Authority, v value, keys map[string]int) {
	isNew := func(id string) bool {
		if line, twice := keys[id]; twice {
			v.problem("%s: the same key is already in this policy at line %d", v.Path, line)
			return false
		}
		keys[id] = v.Node.Line
		return true
	}

	if reference, ok := v.keyReference(); ok {
		if isNew(reference) {
			a.KMS = append(a.KMS, reference)
		}
		return
	}
	if key, ok := l.key(v); ok && isNew(key.ID) {
		a.Keys = append(a.Keys, key)
	}
}

// keyReference reads a key that is kept in a key service.
func (v value) keyReference() (string, bool) {
	text := v.Node.Value
	if v.Is(yaml.ScalarNode, "!!str") != nil || strings.Contains(text, pemBegin) {
		return "", false
	}
	switch keyService(text) {
	case "awskms", "gcpkms", "azurekms", "hashivault":
	default:
		return "", false
	}

	if len(text) > maxPattern || !printable(text) || strings.ContainsAny(text, " \t") ||
		strings.HasSuffix(text, "://") {
		v.problem("%s: %s is no key reference", v.Path, v.brief())
	}
	return text, true
}

// key reads a public key: PEM text, or the name of a file.
func (l *loader) key(v value) (Key, bool) {
	text, ok := v.called(v.Path + ": key").text()
	if !ok {
		return Key{}, false
	}

	if strings.Contains(text, pemBegin) {
		key, err := ParseKey([]byte(text))
		if err != nil {
			v.problem("%s: the key %v", v.Path, err)
			return Key{}, false
		}
		key.Source = inlineKey
		return key, true
	}

	service := keyService(text)
	switch {
	case service == "k8s" || service == "pkcs11":
		v.problem("%s: %s keys are not read: export the public key to a file", v.Path, service)
		return Key{}, false
	case service != "" || text == "" || len(text) > maxKeyPath || !printable(text):
		v.problem("%s: %s is no key: write a file name or PEM text", v.Path, v.brief())
		return Key{}, false
	}
	return l.keyFile(v, text)
}

func (l *loader) keyFile(v value, name string) (Key, bool) {
	text, err := l.read(v.absolute(name), maxKeyFile)
	if err != nil {
		v.problem("%s: %v", v.Path, err)
		return Key{}, false
	}
	key, err := ParseKey(text)
	if err != nil {
		v.problem("%s: key %s %v", v.Path, name, err)
		return Key{}, false
	}

	key.Source = name
	return key, true
}

// keyService names the key management service a key value points to, or "".
func keyService(text string) string {
	scheme, _, ok := strings.Cut(text, "://")
	if !ok {
		// RFC 7512 URIs have no slashes.
		if strings.HasPrefix(text, "pkcs11:") {
			return "pkcs11"
		}
		return ""
	}
	return scheme
}
