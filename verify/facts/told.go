package facts

import bolt "go.etcd.io/bbolt"

// Told names the shared store to which all that this one holds had been written when
// the last process closed it; empty where that is not known. Every process that
// opens the state has it forget this, because it may learn something, and crash.
func (b *Bolt) Told() string { return b.told }

// SetTold says, at the end, to which shared store everything has been written.
func (b *Bolt) SetTold(name string) error {
	return b.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(toldKey, []byte(name)) })
}

func takeTold(db *bolt.DB) (told string, err error) {
	err = db.Update(func(tx *bolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		told = string(meta.Get(toldKey))
		if told == "" {
			return nil
		}
		return meta.Delete(toldKey)
	})
	return told, err
}
