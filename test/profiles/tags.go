package profiles

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
)

// Tags is how a registry lists tags.
type Tags struct {
	Page    int        // entries of a page that is asked for without n; 0: all
	Most    int        // the largest n; 0: any
	TooMany int        // status for a larger n; 0: the page is cut
	Links   Links      // to the next page
	Query   url.Values // of the registry's own, in the link
	Nulls   bool       // entries may be null
	Digests bool       // digests are listed, too
}

// tags answers a request for a list of tags.
func (r *Registry) tags(w http.ResponseWriter, req *http.Request, q Seen) {
	how := r.profile.Tags
	var list struct {
		Tags []string `json:"tags"`
	}
	if json.Unmarshal(r.stored(req, q).Body.Bytes(), &list) != nil {
		Refusal{Status: http.StatusInternalServerError}.write(w)
		return
	}

	query := req.URL.Query()
	n, err := strconv.Atoi(query.Get("n"))
	switch {
	case err != nil:
		n = how.Page
	case how.Most > 0 && n > how.Most && how.TooMany != 0:
		Refusal{Status: how.TooMany, Code: "UNSUPPORTED"}.write(w)
		return
	case how.Most > 0 && n > how.Most:
		n = how.Most
	}

	page := []any{}
	more, last := false, query.Get("last")
	for _, tag := range list.Tags {
		if tag <= last && last != "" {
			continue
		}
		if more = n > 0 && len(page) == n; more {
			break
		}
		page, last = append(page, tag), tag
	}
	if more {
		next := url.Values{"last": {last}, "n": {strconv.Itoa(n)}}
		for name, values := range how.Query {
			next[name] = values
		}
		w.Header().Set("Link", r.profile.link(how.Links, req.URL.Path, next))
	}

	if how.Nulls {
		page = append(page, nil)
	}
	if how.Digests && !more {
		page = append(page, "sha256:"+Zeros)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"name": q.Repository, "tags": page}) // as above
}

// Zeros is the digest that a registry with Tags.Digests lists.
const Zeros = "0000000000000000000000000000000000000000000000000000000000000000"
