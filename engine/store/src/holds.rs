//! Holds: "in use" without the used one knowing its user.
//!
//! A container takes a hold on what it uses (`image:sha256:…`, `volume:data`) in the name of itself
//! (`container:<id>`), in the transaction that records the container. Deletion is refused while a hold stands.

use super::{Reader, StoreError, Table, Writer};

/// Neither side of a hold contains it.
const SEPARATOR: char = '\0';

impl Reader<'_> {
    /// Who holds `what`.
    pub fn holders(&self, what: &str) -> Result<Vec<String>, StoreError> {
        let prefix = format!("{what}{SEPARATOR}");
        let keys = self.keys(Table::Holds, &prefix)?;
        Ok(keys.into_iter().map(|key| key[prefix.len()..].to_owned()).collect())
    }

    /// What `by` holds.
    pub fn held_by(&self, by: &str) -> Result<Vec<String>, StoreError> {
        let keys = self.keys(Table::Holds, "")?;
        let pairs = keys.iter().filter_map(|key| key.split_once(SEPARATOR));
        Ok(pairs.filter(|(_, holder)| *holder == by).map(|(what, _)| what.to_owned()).collect())
    }
}

impl Writer<'_> {
    /// Lets `by` hold `what`; taking it twice is taking it once.
    pub fn hold(&mut self, what: &str, by: &str) -> Result<(), StoreError> {
        self.put(Table::Holds, &format!("{what}{SEPARATOR}{by}"), &())
    }

    /// Ends one hold; nothing happens when it does not stand.
    pub fn release(&mut self, what: &str, by: &str) {
        self.delete(Table::Holds, &format!("{what}{SEPARATOR}{by}"));
    }

    /// Ends every hold of `by`.
    pub fn release_all(&mut self, by: &str) -> Result<(), StoreError> {
        for what in self.held_by(by)? {
            self.release(&what, by);
        }
        Ok(())
    }
}
