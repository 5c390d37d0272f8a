//! Which form the rows of a database have, and how an older form becomes today's.
//!
//! The number stands in the database itself and changes in the transaction that changes the rows: a power cut in the
//! middle of a migration leaves the older schema, whole, and the next start begins anew. A migration works on text and
//! JSON, never on the types of today's rooms, which go on changing while what an old release wrote does not.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use super::StoreError;
use super::migrations::{LIST, Rewriter};

/// The schema that this release writes.
pub const VERSION: u32 = 2;

/// Before there was a number.
const FIRST: u32 = 1;

const SCHEMA: TableDefinition<'static, &'static str, u32> = TableDefinition::new("schema");
const KEY: &str = "version";

/// What was found in a database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: it has just been made.
    Nothing,
    /// Rows of this schema.
    Version(u32),
}

/// Reads the number; [`StoreError::Newer`] where this release cannot know what the rows mean.
pub(super) fn find(database: &Database) -> Result<Found, StoreError> {
    let transaction = database.begin_read().map_err(StoreError::storage)?;
    let table = match transaction.open_table(SCHEMA) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => {
            let is_empty = transaction.list_tables().map_err(StoreError::storage)?.next().is_none();
            return Ok(if is_empty { Found::Nothing } else { Found::Version(FIRST) });
        }
        Err(error) => return Err(StoreError::storage(error)),
    };
    let version = table.get(KEY).map_err(StoreError::storage)?.map_or(FIRST, |version| version.value());
    match version {
        FIRST..=VERSION => Ok(Found::Version(version)),
        found => Err(StoreError::Newer { found, known: VERSION }),
    }
}

/// Brings the rows to today's schema, one durable transaction for each step. `data` is the folder of the database:
/// what a row lacks may stand in a file there.
pub(super) fn migrate(database: &Database, found: Found, data: &Path) -> Result<(), StoreError> {
    let Found::Version(found) = found else { return number(database, VERSION) };
    for (to, rewrite) in LIST.iter().filter(|(to, _)| *to > found) {
        let step = |database: &Database| -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            rewrite(&mut Rewriter::new(&transaction, data))?;
            set(&transaction, *to)?;
            Ok(transaction.commit()?)
        };
        step(database).map_err(|source| {
            let source = Arc::new(source);
            StoreError::Migration { from: to - 1, to: *to, source }
        })?;
        tracing::info!("the data disk's metadata was brought to schema {to}");
    }
    Ok(())
}

fn number(database: &Database, version: u32) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(StoreError::storage)?;
    set(&transaction, version).map_err(StoreError::storage)?;
    transaction.commit().map_err(StoreError::storage)
}

fn set(transaction: &WriteTransaction, version: u32) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(SCHEMA)?;
    table.insert(KEY, version)?;
    Ok(())
}
