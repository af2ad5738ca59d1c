package verify

// Occupy takes every slot for work that costs CPU. They are free again when
// free is called.
func (g *Gate) Occupy() (free func()) {
	for range cap(g.crypto) {
		g.crypto <- struct{}{}
	}
	return func() {
		for range cap(g.crypto) {
			<-g.crypto
		}
	}
}

// Config is what the gate was made of, for another one like it.
func (g *Gate) Config() Config { return g.config }
