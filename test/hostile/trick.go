package hostile

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Match chooses requests.
type Match func(Request) bool

// Any chooses every request.
func Any(Request) bool { return true }

// Is chooses the requests of one kind.
func Is(k Kind) Match { return func(q Request) bool { return q.Kind == k } }

// For chooses the requests for one tag or digest.
func For[T ~string](reference T) Match {
	return func(q Request) bool { return q.Reference == string(reference) }
}

// SignatureTags chooses what is asked of .sig tags.
func SignatureTags(q Request) bool {
	return q.Kind == Manifests && strings.HasSuffix(q.Reference, ".sig")
}

func content(q Request) bool { return q.Kind == Manifests || q.Kind == Blobs }

// Trick is one way to lie. At narrows it to some requests.
type Trick struct {
	Name  string
	where Match
	// play changes the answer, or writes it itself and returns true.
	play func(r *Registry, w http.ResponseWriter, req *http.Request, q Request, a *Answer) bool
}

// At is the same trick, for requests that match and no others.
func (t Trick) At(match Match) Trick {
	t.where = match
	return t
}

// change is a trick that only changes what is said.
func change(name string, where Match, how func(q Request, a *Answer)) Trick {
	return Trick{name, where, func(_ *Registry, _ http.ResponseWriter, _ *http.Request, q Request, a *Answer) bool {
		how(q, a)
		return false
	}}
}

// Change is a trick of a test's own: how changes the answers to requests of one
// kind.
func Change(kind Kind, how func(q Request, a *Answer)) Trick {
	return change("a test's own", Is(kind), how)
}

var zeroDigest = "sha256:" + strings.Repeat("0", 64)

// The tricks that need nothing to be told. Each names where it is played by
// default.
var (
	// LieAboutDigest names another digest in Docker-Content-Digest.
	LieAboutDigest = change("lie about Docker-Content-Digest", content, func(_ Request, a *Answer) {
		if a.Status < 300 {
			a.Header.Set("Docker-Content-Digest", zeroDigest)
		}
	})
	// GarbleDigest puts something that is no digest there.
	GarbleDigest = change("garble Docker-Content-Digest", content, func(_ Request, a *Answer) {
		a.Header.Set("Docker-Content-Digest", "sha256:../../etc/passwd")
	})
	// NoDigest leaves Docker-Content-Digest out, which is allowed.
	NoDigest = change(
		"no Docker-Content-Digest",
		content,
		func(_ Request, a *Answer) { a.Header.Del("Docker-Content-Digest") },
	)
	// HangUp closes the connection without an answer.
	HangUp = Trick{"hang up", Any, func(*Registry, http.ResponseWriter, *http.Request, Request, *Answer) bool {
		panic(http.ErrAbortHandler)
	}}
	// FlipBlob changes one bit of a blob.
	FlipBlob = change("flip a blob's bit", Is(Blobs), func(_ Request, a *Answer) {
		if len(a.Body) > 0 && a.Status < 300 {
			a.Body = slices.Clone(a.Body)
			a.Body[len(a.Body)/2] ^= 1
		}
	})
	// Shorten leaves the last byte out and says so: the answer is whole, and wrong.
	Shorten = change("shorten", content, func(_ Request, a *Answer) {
		if len(a.Body) > 0 && a.Status < 300 {
			a.Body = a.Body[:len(a.Body)-1]
		}
	})
	// Lengthen adds a byte.
	Lengthen = change("lengthen", content, func(_ Request, a *Answer) {
		if a.Status < 300 {
			a.Body = append(slices.Clone(a.Body), '\n')
		}
	})
	// HTML answers everything with 200 and a page.
	HTML = change("200 with HTML", Any, func(_ Request, a *Answer) {
		*a = *answer(http.StatusOK, "text/html", []byte("<!DOCTYPE html><html><body>Please log in.</body></html>"))
	})
	// Gzip compresses, though identity was asked for.
	Gzip = change("gzip Content-Encoding", content, func(_ Request, a *Answer) {
		if a.Status >= 300 {
			return
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(a.Body) // a buffer takes every write
		_ = z.Close()
		a.Body = b.Bytes()
		a.Header.Set("Content-Encoding", "gzip")
	})
	// Unasked206 calls a part of the answer the range that nobody asked for.
	Unasked206 = change("206 unasked", content, func(_ Request, a *Answer) {
		if a.Status == http.StatusOK && len(a.Body) > 1 {
			a.Status = http.StatusPartialContent
			a.Header.Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(a.Body)/2-1, len(a.Body)))
			a.Body = a.Body[:len(a.Body)/2]
		}
	})
	// HugeManifest answers with an image manifest of 8 MiB.
	HugeManifest = change("huge manifest", Is(Manifests), func(_ Request, a *Answer) {
		*a = *answer(http.StatusOK, ImageType, encode(Manifest{
			SchemaVersion: 2,
			MediaType:     ImageType,
			Layers:        []Descriptor{},
			Annotations:   map[string]string{"padding": strings.Repeat("x", 8<<20)},
		}))
	})
	// ManyLayers answers with a manifest of 100,000 layers.
	ManyLayers = change("100k layers", Is(Manifests), func(_ Request, a *Answer) {
		var b bytes.Buffer
		fmt.Fprintf(&b, `{"schemaVersion":2,"mediaType":%q,"config":{"digest":%q},"layers":[{}`, ImageType, zeroDigest)
		for range 100_000 {
			b.WriteString(`,{"size":1}`)
		}
		b.WriteString("]}")
		*a = *answer(http.StatusOK, ImageType, b.Bytes())
	})
	// ManyReferrers lists 10,000 referrers that do not exist.
	ManyReferrers = change(
		"10k referrers",
		Is(Referrers),
		func(_ Request, a *Answer) { *a = *referrersPage(0, 10_000) },
	)
	// EndlessPaging lists referrers and always has one more page.
	EndlessPaging = change("endless referrers paging", Is(Referrers), func(q Request, a *Answer) {
		*a = *referrersPage(q.Nth, 10)
		path, _, _ := strings.Cut(q.URI, "?")
		a.Header.Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, path, q.Nth+1))
	})

	// Truncate promises the whole body, sends half of it and hangs up.
	Truncate = take("truncate", content, func(_ *Registry, w http.ResponseWriter, _ *http.Request, a *Answer) {
		begin(w, a, len(a.Body))
		_, _ = w.Write(a.Body[:len(a.Body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	// TruncateChunked sends half of the body without its length and hangs up.
	TruncateChunked = take(
		"truncate, chunked",
		content,
		func(_ *Registry, w http.ResponseWriter, _ *http.Request, a *Answer) {
			begin(w, a, -1)
			_, _ = w.Write(a.Body[:len(a.Body)/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	)
	// TooShortLength promises fewer bytes than there are, and sends as many.
	TooShortLength = take(
		"Content-Length too short",
		content,
		func(_ *Registry, w http.ResponseWriter, _ *http.Request, a *Answer) {
			begin(w, a, max(0, len(a.Body)-3))
			_, _ = w.Write(a.Body[:max(0, len(a.Body)-3)])
		},
	)
	// TooLongLength promises more bytes than there are.
	TooLongLength = take(
		"Content-Length too long",
		content,
		func(_ *Registry, w http.ResponseWriter, _ *http.Request, a *Answer) {
			begin(w, a, len(a.Body)+100)
			_, _ = w.Write(a.Body)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	)
	// Chunked sends the honest body without its length.
	Chunked = take("chunked", content, func(_ *Registry, w http.ResponseWriter, _ *http.Request, a *Answer) {
		begin(w, a, -1)
		_, _ = w.Write(a.Body)
		_ = http.NewResponseController(w).Flush()
	})
	// Endless sends the honest body and never stops.
	Endless = take("endless body", content, func(r *Registry, w http.ResponseWriter, req *http.Request, a *Answer) {
		begin(w, a, -1)
		_, err := w.Write(a.Body)
		for more := bytes.Repeat([]byte(" "), 32<<10); err == nil && req.Context().Err() == nil && !r.ended(); {
			_, err = w.Write(more)
		}
	})
	// StallAtOnce never answers.
	StallAtOnce = take(
		"stall at once",
		content,
		func(r *Registry, _ http.ResponseWriter, req *http.Request, _ *Answer) { r.wait(req) },
	)
	// StallAfterHeaders sends the headers and nothing more.
	StallAfterHeaders = take(
		"stall after headers",
		content,
		func(r *Registry, w http.ResponseWriter, req *http.Request, a *Answer) {
			begin(w, a, len(a.Body))
			_ = http.NewResponseController(w).Flush()
			r.wait(req)
		},
	)
	// StallMidBody sends half of the body and nothing more.
	StallMidBody = take(
		"stall mid-body",
		content,
		func(r *Registry, w http.ResponseWriter, req *http.Request, a *Answer) {
			begin(w, a, len(a.Body))
			_, _ = w.Write(a.Body[:len(a.Body)/2])
			_ = http.NewResponseController(w).Flush()
			r.wait(req)
		},
	)
	// StallChunked sends half of the body, without its length, and nothing more.
	StallChunked = take(
		"stall, chunked",
		content,
		func(r *Registry, w http.ResponseWriter, req *http.Request, a *Answer) {
			begin(w, a, -1)
			_, _ = w.Write(a.Body[:len(a.Body)/2])
			_ = http.NewResponseController(w).Flush()
			r.wait(req)
		},
	)
)

// All are the tricks of this file that need nothing to be told, for tests that
// hold under each of them.
var All = []Trick{
	LieAboutDigest,
	GarbleDigest,
	NoDigest,
	FlipBlob,
	Shorten,
	Lengthen,
	HTML,
	Gzip,
	Unasked206,
	HugeManifest,
	ManyLayers,
	ManyReferrers,
	EndlessPaging,
	Truncate,
	TruncateChunked,
	TooShortLength,
	TooLongLength,
	Chunked,
	Endless,
	StallAtOnce,
	StallAfterHeaders,
	StallMidBody,
	StallChunked,
}

// take is a trick that writes the whole answer itself, for GET only: a HEAD has
// no body to play with.
func take(name string, where Match, how func(r *Registry, w http.ResponseWriter, req *http.Request, a *Answer)) Trick {
	return Trick{name, where, func(r *Registry, w http.ResponseWriter, req *http.Request, _ Request, a *Answer) bool {
		if req.Method == http.MethodHead {
			return false
		}
		how(r, w, req, a)
		return true
	}}
}

// begin sends status and headers; a negative length is left out.
func begin(w http.ResponseWriter, a *Answer, length int) {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	if length >= 0 {
		w.Header().Set("Content-Length", strconv.Itoa(length))
	}
	w.WriteHeader(a.Status)
}

func (r *Registry) wait(req *http.Request) {
	select {
	case <-req.Context().Done():
	case <-r.closed:
	}
	panic(http.ErrAbortHandler)
}

func (r *Registry) ended() bool {
	select {
	case <-r.closed:
		return true
	default:
		return false
	}
}

func referrersPage(page, n int) *Answer {
	list := make([]reference, n)
	for i := range list {
		list[i] = reference{
			MediaType:    ImageType,
			Digest:       digest.FromString(fmt.Sprint(page, i)),
			Size:         100,
			ArtifactType: SignatureType,
		}
	}
	return answer(http.StatusOK, IndexType, encode(map[string]any{
		"schemaVersion": 2,
		"mediaType":     IndexType,
		"manifests":     list,
	}))
}

// OtherBytes answers with these instead, under an honest face.
func OtherBytes(mediaType string, body []byte) Trick {
	return change("other bytes", content, func(_ Request, a *Answer) {
		d := a.Header.Get("Docker-Content-Digest")
		*a = *answer(http.StatusOK, mediaType, body)
		if d != "" {
			a.Header.Set("Docker-Content-Digest", d)
		}
	})
}

// Swap makes a tag mean one manifest for HEAD and another for GET. Both must
// have been pushed to the tag's repository.
func Swap(tag string, head, get digest.Digest) Trick {
	return Trick{
		"swap between HEAD and GET",
		For(tag),
		func(r *Registry, _ http.ResponseWriter, req *http.Request, q Request, a *Answer) bool {
			q.Reference = get.String()
			if req.Method == http.MethodHead {
				q.Reference = head.String()
			}
			*a = *r.again(q)
			return false
		},
	}
}

// Alternate makes a tag mean another manifest each time it is asked for, by any
// method.
func Alternate(tag string, list ...digest.Digest) Trick {
	return Trick{
		"alternate",
		For(tag),
		func(r *Registry, _ http.ResponseWriter, _ *http.Request, q Request, a *Answer) bool {
			q.Reference = list[q.Nth%len(list)].String()
			*a = *r.again(q)
			return false
		},
	}
}

func (r *Registry) again(q Request) *Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.manifest(q)
}

// Status answers with a status and an error of the spec's form.
func Status(status int, header ...string) Trick {
	return change("status "+strconv.Itoa(status), Any, func(_ Request, a *Answer) {
		*a = *failure(status, "UNKNOWN")
		for i := 0; i+1 < len(header); i += 2 {
			a.Header.Set(header[i], header[i+1])
		}
	})
}

// TooManyRequests answers 429 with a Retry-After.
func TooManyRequests(retryAfter string) Trick {
	return Status(http.StatusTooManyRequests, "Retry-After", retryAfter)
}

// NoReferrers is how a registry without the referrers API answers: 404, 405,
// 501, 400, or 200 with a page (status 200).
func NoReferrers(status int) Trick {
	if status == http.StatusOK {
		return HTML.At(Is(Referrers))
	}
	return Status(status).At(Is(Referrers))
}

// BrokenSignatureTag answers 500 on every .sig tag.
func BrokenSignatureTag() Trick { return Status(http.StatusInternalServerError).At(SignatureTags) }

// RedirectBlobs sends blobs elsewhere: to the same path under base.
func RedirectBlobs(base string) Trick {
	return change("redirect blobs", Is(Blobs), func(q Request, a *Answer) {
		*a = *answer(http.StatusTemporaryRedirect, "text/plain", nil)
		a.Header.Set("Location", base+q.URI)
	})
}

// Slow answers honestly, later.
func Slow(wait time.Duration) Trick {
	return Trick{"slow", Any, func(r *Registry, _ http.ResponseWriter, req *http.Request, _ Request, _ *Answer) bool {
		select {
		case <-time.After(wait):
		case <-req.Context().Done():
		case <-r.closed:
		}
		return false
	}}
}

// AddHeaders puts headers of the caller's on every answer.
func AddHeaders(header ...string) Trick {
	return change("add headers", Any, func(_ Request, a *Answer) {
		for i := 0; i+1 < len(header); i += 2 {
			a.Header.Set(header[i], header[i+1])
		}
	})
}
