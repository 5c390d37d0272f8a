//! The log of a container: what the drivers `json-file` and `local` keep.
//!
//! ```text
//!   <path>        written at its end
//!   <path>.1      the one before, when it had reached max-size       <path>.1.gz  with compress
//!   ...           up to max-file files in all; the oldest goes
//! ```
//!
//! Both drivers keep the same records; `local` differs in its defaults and in telling nobody where they are, as Docker
//! promises nothing about the form of its own. The mode `non-blocking` needs nothing more than the spool, which takes
//! output in whether or not the disk does.

mod file;
mod options;
mod reader;
mod record;
mod tail;

pub(super) use file::LogFile;
pub use file::LogPlace;
pub use options::{Rules, Subject, attributes, check};
pub use reader::Reader;
pub(super) use record::Cut;
pub use record::{Attributes, Record};
