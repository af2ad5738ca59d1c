package postgres

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
)

// This file is what keys and values look like. A change that older programs cannot
// read needs another schemaMajor.

// The first byte of a key says what is under it.
const (
	sentinelKey  = "\x00" // of the whole store, and nothing but that byte
	indexesOf    = 'i'    // a repository
	manifestOf   = 'M'    // a digest, as those below
	signaturesOf = 'S'
	seenOf       = 'T'
)

// The first byte of a packed digest. Canonical digests are their raw bytes.
const (
	packedText   = 0
	packedSHA256 = 1
	packedSHA512 = 2

	maxText = 255
)

const (
	repositoryBytes = 16
	sealBytes       = 16

	elementBytes = 2 + sha256.Size                 // of a list, for a SHA-256 digest
	listBytes    = facts.MaxParents * elementBytes // of a list; half as many SHA-512 digests fit
	recordBytes  = facts.MaxManifestBytes + 4<<10  // of a record, a media type's name included
)

// names makes the keys of one namespace.
type names struct{ secret []byte }

// of is the key of a digest in a repository; nil for a digest that is too long to
// be one. Without kind's digest it is the key of the repository.
func (n names) of(kind byte, repo policy.Repository, d ...digest.Digest) []byte {
	mac := hmac.New(sha256.New, n.secret)
	mac.Write([]byte("repository\x00" + repo.String()))
	key := append([]byte{kind}, mac.Sum(nil)[:repositoryBytes]...)
	if len(d) == 0 {
		return key
	}

	packed := pack(d[0])
	if packed == nil {
		return nil
	}
	return append(key, packed...)
}

// seal puts before a record what only those can write who know the namespace:
// a time in it proves nothing by itself. Without a namespace nothing is sealed.
func (n names) seal(key, record []byte) []byte {
	if len(n.secret) == 0 {
		return record
	}
	return append(n.mac(key, record), record...)
}

// unseal returns the record, and false when it was sealed by another, or for
// another key.
func (n names) unseal(key, sealed []byte) ([]byte, bool) {
	if len(n.secret) == 0 {
		return sealed, true
	}
	if len(sealed) < sealBytes {
		return nil, false
	}
	record := sealed[sealBytes:]
	return record, hmac.Equal(sealed[:sealBytes], n.mac(key, record))
}

func (n names) mac(key, record []byte) []byte {
	mac := hmac.New(sha256.New, n.secret)
	mac.Write([]byte("record\x00"))
	mac.Write(binary.AppendUvarint(nil, uint64(len(key))))
	mac.Write(key)
	mac.Write(record)
	return mac.Sum(nil)[:sealBytes]
}

func pack(d digest.Digest) []byte {
	algorithm, text, _ := strings.Cut(string(d), ":")
	raw, err := hex.DecodeString(text)
	if err == nil && hex.EncodeToString(raw) == text {
		switch {
		case algorithm == "sha256" && len(raw) == 32:
			return append([]byte{packedSHA256}, raw...)
		case algorithm == "sha512" && len(raw) == 64:
			return append([]byte{packedSHA512}, raw...)
		}
	}
	if len(d) > maxText {
		return nil
	}
	return append([]byte{packedText}, d...)
}

func unpack(packed []byte) digest.Digest {
	if len(packed) == 0 {
		return ""
	}
	switch kind, rest := packed[0], packed[1:]; kind {
	case packedSHA256:
		return digest.Digest("sha256:" + hex.EncodeToString(rest))
	case packedSHA512:
		return digest.Digest("sha512:" + hex.EncodeToString(rest))
	case packedText:
		return digest.Digest(rest)
	}
	return ""
}

// element is a digest as it stands in a list: after its length.
func element(d digest.Digest) []byte {
	packed := pack(d)
	if packed == nil {
		return nil
	}
	return append(binary.AppendUvarint(nil, uint64(len(packed))), packed...)
}

// elements reads a list as far as it makes sense: its end may have been cut.
func elements(list []byte) []digest.Digest {
	var all []digest.Digest
	for len(list) > 0 && len(all) < facts.MaxParents {
		n, used := binary.Uvarint(list)
		if used <= 0 || n > uint64(len(list)-used) {
			return all
		}

		end := used + int(n)
		if d := unpack(list[used:end]); d != "" {
			all = append(all, d)
		}
		list = list[end:]
	}
	return all
}
