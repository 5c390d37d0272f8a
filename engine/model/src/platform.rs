//! Which manifest of a list fits a machine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A platform that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\": unknown operating system or architecture: invalid argument")]
pub struct UnknownPlatform(String);

/// Operating system, architecture and variant in Go's words, as in `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// `v8`, or empty.
    pub variant: String,
}

const KNOWN_SYSTEMS: [&str; 11] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "linux",
    "netbsd",
    "openbsd",
    "solaris",
    "windows",
];
const KNOWN_ARCHITECTURES: [&str; 13] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x",
];

impl Platform {
    /// The machine this runs on.
    pub fn host() -> Platform {
        let (architecture, variant) = normal(std::env::consts::ARCH, "");
        Platform { os: "linux".to_owned(), architecture, variant }
    }

    /// The machine this runs on, with the variant that its processor really has: what may run here where nobody asked for
    /// a platform. Who asks for `linux/amd64` means a program that every such processor can run.
    pub fn processor() -> Platform {
        Platform { variant: processor_variant().to_owned(), ..Platform::host() }
    }

    /// Reads `os/arch[/variant]`, `os` or `arch`; what is left out is the host's. A single word must be known, to tell
    /// what it is; of systems and architectures that nobody has heard of there is no image.
    pub fn parse(text: &str) -> Result<Platform, UnknownPlatform> {
        let unknown = || UnknownPlatform(text.to_owned());
        let host = Platform::host();
        let lower = text.to_ascii_lowercase();
        let words: Vec<&str> = lower.split('/').collect();
        let (os, architecture, variant) = match words[..] {
            [os] if KNOWN_SYSTEMS.contains(&os) => (os, host.architecture.as_str(), host.variant.as_str()),
            [architecture] if KNOWN_ARCHITECTURES.contains(&normal(architecture, "").0.as_str()) => {
                (host.os.as_str(), architecture, "")
            }
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] => (os, architecture, variant),
            _ => return Err(unknown()),
        };
        let is_word = |word: &&str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        if !words.iter().all(is_word) {
            return Err(unknown());
        }
        let (architecture, variant) = normal(architecture, variant);
        Ok(Platform { os: os.to_owned(), architecture, variant })
    }

    /// Whether something for `other` runs here.
    pub fn runs(&self, other: &Platform) -> bool {
        self.suits(other).is_some()
    }

    /// How well something for `other` runs here: not at all, or the higher the better.
    pub fn suits(&self, other: &Platform) -> Option<u32> {
        let (architecture, variant) = normal(&other.architecture, &other.variant);
        let level = |variant: &str| variant.trim_start_matches('v').parse::<u32>().ok();
        if self.os == other.os && self.architecture == "amd64" && architecture == "386" {
            // Every such processor runs them, and the kernel too; everything of its own kind is better.
            return Some(0);
        }
        let same = self.os == other.os && self.architecture == architecture;
        match (level(or_oldest(self, &self.variant)), level(or_oldest(self, &variant))) {
            (Some(own), Some(needed)) => (same && needed <= own).then_some(needed),
            _ => (same && self.variant == variant).then_some(0),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// Other people's words for architectures; the variant that is meant by none.
fn normal(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("i386" | "x86", _) => ("386", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        other => other,
    };
    let variant = match (architecture, variant) {
        ("arm64", "" | "8") => "v8",
        ("arm", "") => "v7",
        ("amd64", "v1") => "",
        other => other.1,
    };
    (architecture.to_owned(), variant.to_owned())
}

/// The level of the x86-64 psABI that the processor has all instructions of; `v1` is told by no variant.
fn processor_variant() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! has {
            ($($feature:tt),+) => { $(std::arch::is_x86_feature_detected!($feature))&&+ };
        }
        let v2 = has!("cmpxchg16b", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3");
        let v3 = v2 && has!("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe");
        let v4 = v3 && has!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl");
        match (v4, v3, v2) {
            (true, ..) => return "v4",
            (_, true, _) => return "v3",
            (.., true) => return "v2",
            _ => {}
        }
    }
    ""
}

fn or_oldest<'a>(platform: &Platform, variant: &'a str) -> &'a str {
    if variant.is_empty() && platform.architecture == "amd64" { "v1" } else { variant }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &str, offered: &[&str], expected: Option<usize>) {
        let wanted = Platform::parse(wanted).unwrap();
        let offered = offered.iter().map(|text| Platform::parse(text).unwrap());
        let suits = offered.enumerate().filter_map(|(at, other)| Some((wanted.suits(&other)?, at)));
        assert_eq!(suits.max_by_key(|(level, _)| *level).map(|(_, at)| at), expected, "{wanted}");
    }

    #[test]
    fn the_best_fitting_variant_is_chosen() {
        check("linux/amd64", &["linux/arm64", "linux/amd64"], Some(1));
        check("linux/amd64", &["linux/amd64/v2", "linux/amd64"], Some(1));
        check("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], Some(1));
        check("linux/arm64", &["linux/arm64/v8"], Some(0));
        check("linux/arm64/v8", &["linux/arm64"], Some(0));
        check("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm64"], Some(1));
        check("linux/arm/v6", &["linux/arm/v7"], None);
        check("linux/amd64", &["windows/amd64"], None);
        check("linux/amd64", &["linux/386"], Some(0));
        check("linux/amd64", &["linux/386", "linux/amd64"], Some(1));
        check("linux/386", &["linux/amd64"], None);
        check("linux/riscv64", &["linux/riscv64"], Some(0));
    }

    #[test]
    fn the_processor_runs_all_that_the_host_does() {
        assert!(Platform::processor().runs(&Platform::host()));
        assert_eq!(Platform::processor().architecture, Platform::host().architecture);
    }

    #[test]
    fn platforms_are_read() {
        for (text, expected) in [
            ("linux/x86_64", "linux/amd64"),
            ("LINUX/aarch64", "linux/arm64/v8"),
            ("arm64", "linux/arm64/v8"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("plan9/nope", "plan9/nope"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), expected);
        }
        for bad in ["foobar", "linux/f%o", "linux/", "a/b/c/d", ""] {
            let error = Platform::parse(bad).unwrap_err().to_string();
            assert!(error.contains("unknown operating system or architecture"), "{error}");
        }
    }
}
