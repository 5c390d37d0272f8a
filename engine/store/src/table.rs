//! The tables. Each has one owner in `core`; nobody else writes it.

use redb::TableDefinition;

pub(super) type Definition = TableDefinition<'static, &'static str, &'static [u8]>;

/// A table of string keys and JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Container id → its record.
    Containers,
    /// Container name → container id.
    Names,
    /// Image id → its record.
    Images,
    /// Canonical reference → image id.
    References,
    /// Diff id → layer record.
    Layers,
    /// See [`super::Writer::hold`].
    Holds,
    /// Network id → its record.
    Networks,
    /// Volume name → its record.
    Volumes,
    /// Settings of the engine that are learnt once, such as its id.
    Settings,
}

impl Table {
    pub(super) const ALL: [Table; 9] = [
        Table::Containers,
        Table::Names,
        Table::Images,
        Table::References,
        Table::Layers,
        Table::Holds,
        Table::Networks,
        Table::Volumes,
        Table::Settings,
    ];

    pub(super) const fn definition(self) -> Definition {
        TableDefinition::new(match self {
            Table::Containers => "containers",
            Table::Names => "names",
            Table::Images => "images",
            Table::References => "references",
            Table::Layers => "layers",
            Table::Holds => "holds",
            Table::Networks => "networks",
            Table::Volumes => "volumes",
            Table::Settings => "settings",
        })
    }
}
