package sigstore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/go-openapi/runtime"
	"github.com/go-openapi/strfmt"
	"github.com/sigstore/rekor/pkg/generated/models"
	"github.com/sigstore/rekor/pkg/types"
	_ "github.com/sigstore/rekor/pkg/types/dsse/v0.0.1"         // what cosign 3 logs of an attestation
	_ "github.com/sigstore/rekor/pkg/types/hashedrekord/v0.0.1" // what both log of a signature
	_ "github.com/sigstore/rekor/pkg/types/intoto/v0.0.2"       // what cosign 2 may log of an attestation
	"github.com/sigstore/rekor/pkg/util"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/transparency-dev/merkle/rfc6962"
	merkle "github.com/transparency-dev/merkle/testonly"
)

// rekorTree is the number a Rekor puts before its checkpoints and its entries' names.
const rekorTree = 3904496407287907110

// rekorV1 is a transparency log with the first API of Rekor. Rekor's own types
// make the entries; the tree is in memory.
type rekorV1 struct {
	host   string
	key    *ecdsa.PrivateKey
	id     string // hex of the public key's hash
	signer signature.Signer

	mu      sync.Mutex
	tree    *merkle.Tree
	entries map[string]models.LogEntryAnon
}

func newRekorV1(host string) (*rekorV1, error) {
	key, id, err := logKey()
	if err != nil {
		return nil, err
	}
	signer, err := signature.LoadECDSASigner(key, crypto.SHA256)
	return &rekorV1{
		host:    host,
		key:     key,
		id:      hex.EncodeToString(id[:]),
		signer:  signer,
		tree:    merkle.New(rfc6962.DefaultHasher),
		entries: map[string]models.LogEntryAnon{},
	}, err
}

func (l *rekorV1) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/log/publicKey", l.publicKey)
	mux.HandleFunc("GET /api/v1/log/entries/{uuid}", l.get)
	mux.HandleFunc("POST /api/v1/log/entries", l.add)
	return mux
}

func (l *rekorV1) publicKey(w http.ResponseWriter, _ *http.Request) {
	key, err := PublicKey(&l.key.PublicKey)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(key) // a client that has gone needs no answer
}

func (l *rekorV1) get(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entry, ok := l.entries[r.PathValue("uuid")]
	if !ok {
		refuse(w, http.StatusNotFound, fmt.Errorf("no entry %s", r.PathValue("uuid")))
		return
	}
	writeJSON(w, http.StatusOK, models.LogEntry{r.PathValue("uuid"): entry})
}

func (l *rekorV1) add(w http.ResponseWriter, r *http.Request) {
	proposed, err := models.UnmarshalProposedEntry(http.MaxBytesReader(w, r.Body, 8<<20), runtime.JSONConsumer())
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	entry, err := types.UnmarshalEntry(proposed)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	body, err := types.CanonicalizeEntry(r.Context(), entry)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	uuid, logged, err := l.append(r.Context(), body)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Location", "/api/v1/log/entries/"+uuid)
	w.Header().Set("ETag", uuid)
	writeJSON(w, http.StatusCreated, models.LogEntry{uuid: logged})
}

// append puts a canonical entry into the tree, with everything that proves it.
func (l *rekorV1) append(ctx context.Context, body []byte) (string, models.LogEntryAnon, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	index := l.tree.Size()
	l.tree.AppendData(body)
	size := l.tree.Size()
	root := l.tree.HashAt(size)
	path, err := l.tree.InclusionProof(index, size)
	if err != nil {
		return "", models.LogEntryAnon{}, err
	}
	checkpoint, err := util.CreateAndSignCheckpoint(ctx, l.host, rekorTree, size, root, l.signer)
	if err != nil {
		return "", models.LogEntryAnon{}, err
	}
	now, logIndex, treeSize := time.Now().Unix(), int64(index), int64(size)
	entry := models.LogEntryAnon{
		Body:           base64.StdEncoding.EncodeToString(body),
		IntegratedTime: &now,
		LogID:          &l.id,
		LogIndex:       &logIndex,
	}
	promise, err := l.promise(entry)
	if err != nil {
		return "", models.LogEntryAnon{}, err
	}
	hashes := make([]string, len(path))
	for i, h := range path {
		hashes[i] = hex.EncodeToString(h)
	}
	rootHash, note := hex.EncodeToString(root), string(checkpoint)
	entry.Verification = &models.LogEntryAnonVerification{
		SignedEntryTimestamp: strfmt.Base64(promise),
		InclusionProof: &models.InclusionProof{
			Checkpoint: &note,
			Hashes:     hashes,
			LogIndex:   &logIndex,
			RootHash:   &rootHash,
			TreeSize:   &treeSize,
		},
	}
	uuid := fmt.Sprintf("%016x%x", rekorTree, rfc6962.DefaultHasher.HashLeaf(body))
	l.entries[uuid] = entry
	return uuid, entry, nil
}

// promise is the signed entry timestamp.
func (l *rekorV1) promise(e models.LogEntryAnon) ([]byte, error) {
	payload, err := json.Marshal(map[string]any{
		"body":           e.Body,
		"integratedTime": e.IntegratedTime,
		"logID":          e.LogID,
		"logIndex":       e.LogIndex,
	})
	if err != nil {
		return nil, err
	}
	if payload, err = jsoncanonicalizer.Transform(payload); err != nil {
		return nil, err
	}
	return l.signer.SignMessage(bytes.NewReader(payload))
}

func refuse(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]any{"code": status, "message": err.Error()})
}
