//! How a list of steps travels from the engine to the zygote: what serde does not know by itself. Both are the same program
//! file, so the format needs no version.

/// Sets of bits of `sys`, by the kernel's numbers.
macro_rules! by_bits {
    ($module:ident, $set:ty) => {
        pub(super) mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            pub(crate) fn serialize<S: Serializer>(set: &$set, to: S) -> Result<S::Ok, S::Error> {
                set.bits().serialize(to)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<$set, D::Error> {
                u64::deserialize(from).map(<$set>::from_bits)
            }
        }
    };
}

by_bits!(clone_flags, sys::clone::CloneFlags);
by_bits!(mount_attributes, sys::mounts::MountAttributes);

/// Kinds of resource limits, by their names.
pub(super) mod resource {
    use rustix::process::Resource;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::launch::resource::{name_of, resource_by_name};

    pub(crate) fn serialize<S: Serializer>(resource: &Resource, to: S) -> Result<S::Ok, S::Error> {
        name_of(*resource).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Resource, D::Error> {
        let name = String::deserialize(from)?;
        resource_by_name(&name).ok_or_else(|| D::Error::custom("no such resource"))
    }
}

/// Group ids as numbers.
pub(super) mod groups {
    use rustix::process::Gid;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(groups: &[Gid], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(groups.iter().map(|gid| gid.as_raw()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Gid>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().map(Gid::from_raw).collect())
    }
}

/// Arguments and environments as their strings.
pub(super) mod strings {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use sys::clone::StringArray;

    pub(crate) fn serialize<S: Serializer>(array: &StringArray, to: S) -> Result<S::Ok, S::Error> {
        array.strings().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<StringArray, D::Error> {
        Deserialize::deserialize(from).map(StringArray::new)
    }
}

/// Seccomp programs as their instructions.
pub(super) mod filter {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::seccomp::{Filter, Instruction};

    type Fields = (u16, u8, u8, u32);

    pub(crate) fn serialize<S: Serializer>(filter: &Filter, to: S) -> Result<S::Ok, S::Error> {
        let fields = |i: &Instruction| (i.code, i.jt, i.jf, i.k);
        let all: Vec<Fields> = filter.instructions.iter().map(fields).collect();
        (filter.flags, all).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Filter>, D::Error> {
        let (flags, all) = <(u32, Vec<Fields>)>::deserialize(from)?;
        let instructions = all.into_iter().map(|(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect();
        Ok(Arc::new(Filter { instructions, flags }))
    }
}
