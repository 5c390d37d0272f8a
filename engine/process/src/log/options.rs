//! The options of the log drivers: <https://docs.docker.com/engine/logging/drivers/json-file/>, .../local/.

use std::collections::BTreeMap;

use regex_lite::Regex;

use super::record::Attributes;

/// When and how a log makes room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Bytes at which a file is full; `None` is never.
    pub max_size: Option<u64>,
    /// How many files there are at most.
    pub max_files: u32,
    /// Whether files that are full are compressed.
    pub compress: bool,
}

impl Default for Rules {
    /// One file that grows for ever: Docker's default.
    fn default() -> Rules {
        Rules { max_size: None, max_files: 1, compress: false }
    }
}

/// Of what the log is, for its attributes.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// 64 hexadecimal digits.
    pub id: &'a str,
    /// Without a slash in front.
    pub name: &'a str,
    /// `sha256:...`.
    pub image_id: &'a str,
    /// As the container's creator wrote it.
    pub image: &'a str,
    /// Labels of the container.
    pub labels: &'a BTreeMap<String, String>,
    /// `KEY=value`.
    pub env: &'a [String],
}

/// Options that every driver has.
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];
const KNOWN: [&str; 8] =
    ["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];

type Options = BTreeMap<String, String>;

/// What is wrong with a driver and its options, in dockerd's words.
///
/// # Errors
/// That text.
pub fn check(driver: &str, options: &Options) -> Result<(), String> {
    if driver == "none" {
        return Ok(());
    }
    check_mode(options)?;
    let wrong = options.keys().find(|key| !COMMON.contains(&key.as_str()) && !KNOWN.contains(&key.as_str()));
    match (driver, wrong) {
        ("json-file", Some(key)) => Err(format!("unknown log opt '{key}' for json-file log driver")),
        ("local", Some(key)) => Err(format!("unknown log opt '{key}' for log driver local")),
        ("json-file" | "local", None) => {
            Rules::read(driver, options).map_err(initialize)?;
            regexes(options).map_err(initialize)?;
            expand_tag(options.get("tag").map_or("", String::as_str), &|_| Some(String::new()))
                .map_err(initialize)?;
            Ok(())
        }
        _ => Err(format!("logger: no log driver named '{driver}' is registered")),
    }
}

fn initialize(text: String) -> String {
    format!("failed to initialize logging driver: {text}")
}

fn check_mode(options: &Options) -> Result<(), String> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(format!("logger: logging mode not supported: {mode}"));
    }
    let Some(size) = options.get("max-buffer-size") else { return Ok(()) };
    if mode != "non-blocking" {
        return Err("logger: max-buffer-size option is only supported with 'mode=non-blocking'".to_owned());
    }
    bytes(size, 1024).map(drop).map_err(|text| format!("error parsing option max-buffer-size: {text}"))
}

impl Rules {
    /// Of a driver with options that [`check`] has passed, or the first fault.
    ///
    /// # Errors
    /// dockerd's text.
    pub fn read(driver: &str, options: &Options) -> Result<Rules, String> {
        let local = driver == "local";
        let number = |text: &String| {
            let parsed = text.parse::<u32>();
            parsed.map_err(|_| format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))
        };
        let max_size = match options.get("max-size") {
            Some(text) => Some(bytes(text, 1000)?)
                .filter(|size| *size > 0)
                .ok_or("max-size must be a positive number")?
                .into(),
            None => local.then_some(20_000_000),
        };
        let max_files = options.get("max-file").map_or(Ok(if local { 5 } else { 1 }), number)?;
        if max_files < 1 {
            return Err("max-file cannot be less than 1".to_owned());
        }
        let asked = options.get("compress").map(|text| truth(text)).transpose()?;
        if !local && asked == Some(true) && (max_files < 2 || max_size.is_none()) {
            let text = "compress cannot be true when max-file is less than 2 or max-size is not set";
            return Err(text.to_owned());
        }
        Ok(Rules { max_size, max_files, compress: asked.unwrap_or(local) })
    }
}

/// Go's strconv.ParseBool.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax")),
    }
}

/// A number with one of Docker's units, whose steps are 1000 or 1024.
fn bytes(text: &str, step: u64) -> Result<u64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| invalid())?;
    let unit = text[digits..].trim_start().to_ascii_lowercase();
    let letter = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(invalid()),
    };
    Ok((number * step.pow(power) as f64) as u64)
}

fn regexes(options: &Options) -> Result<[Option<Regex>; 2], String> {
    let read = |key: &str| {
        let text = options.get(key).filter(|text| !text.is_empty());
        text.map(|text| Regex::new(text).map_err(|error| format!("error parsing regexp: {error}")))
            .transpose()
    };
    Ok([read("labels-regex")?, read("env-regex")?])
}

/// What is added to every record of a log with options that [`check`] has passed.
pub fn attributes(options: &Options, subject: &Subject) -> Attributes {
    let env: BTreeMap<&str, &str> = subject.env.iter().filter_map(|word| word.split_once('=')).collect();
    let labels = subject.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let [labels_regex, env_regex] = regexes(options).unwrap_or_default();
    let mut attributes = Attributes::new();
    chosen(&labels, options.get("labels"), labels_regex, &mut attributes);
    chosen(&env, options.get("env"), env_regex, &mut attributes);
    if let Some(tag) = options.get("tag").filter(|tag| !tag.is_empty())
        && let Ok(tag) = expand_tag(tag, &|field| subject.field(field))
    {
        attributes.insert("tag".to_owned(), tag);
    }
    attributes
}

fn chosen(from: &BTreeMap<&str, &str>, names: Option<&String>, regex: Option<Regex>, into: &mut Attributes) {
    let named = |key: &str| names.is_some_and(|names| names.split(',').any(|name| name == key));
    let wanted = |key: &str| named(key) || regex.as_ref().is_some_and(|regex| regex.is_match(key));
    let pairs = from.iter().filter(|(key, _)| wanted(key));
    into.extend(pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
}

impl Subject<'_> {
    fn field(&self, name: &str) -> Option<String> {
        let short = |id: &str| id.trim_start_matches("sha256:").chars().take(12).collect();
        Some(match name {
            ".ID" => short(self.id),
            ".FullID" => self.id.to_owned(),
            ".Name" => self.name.to_owned(),
            ".ImageID" => short(self.image_id),
            ".ImageFullID" => self.image_id.to_owned(),
            ".ImageName" => self.image.to_owned(),
            ".DaemonName" => "docker".to_owned(),
            _ => return None,
        })
    }
}

const FIELDS: [&str; 7] =
    [".ID", ".FullID", ".Name", ".ImageID", ".ImageFullID", ".ImageName", ".DaemonName"];

/// The tag with its `{{.Field}}` filled in. Of Go's templates that is all that a tag has use for.
fn expand_tag(tag: &str, field: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inner, behind) = after.split_once("}}").ok_or("template: log-tag: unclosed action")?;
        let name = inner.trim();
        let known = FIELDS.contains(&name).then(|| field(name)).flatten();
        let value =
            known.ok_or_else(|| format!("template: log-tag: {{{{{inner}}}}} is not one of {FIELDS:?}"))?;
        text = text + before + &value;
        rest = behind;
    }
    Ok(text + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn faults_are_told_as_dockerd_tells_them() {
        let told = |driver: &str, pairs: &[(&str, &str)], text: &str| {
            assert_eq!(check(driver, &options(pairs)).err().as_deref().unwrap_or_default(), text);
        };
        told("json-file", &[], "");
        told("none", &[("anything", "x")], "");
        told("syslog", &[], "logger: no log driver named 'syslog' is registered");
        told("json-file", &[("x", "y")], "unknown log opt 'x' for json-file log driver");
        told("local", &[("x", "y")], "unknown log opt 'x' for log driver local");
        told("local", &[("mode", "odd")], "logger: logging mode not supported: odd");
        told("local", &[("mode", "non-blocking"), ("max-buffer-size", "4m")], "");
        let text = "logger: max-buffer-size option is only supported with 'mode=non-blocking'";
        told("local", &[("max-buffer-size", "4m")], text);
        let initialize = |pairs: &[(&str, &str)], text: &str| {
            told("json-file", pairs, &format!("failed to initialize logging driver: {text}"));
        };
        initialize(&[("max-size", "0")], "max-size must be a positive number");
        initialize(&[("max-size", "some")], "invalid size: 'some'");
        initialize(&[("max-file", "0")], "max-file cannot be less than 1");
        initialize(&[("max-file", "x")], "strconv.Atoi: parsing \"x\": invalid syntax");
        let text = "compress cannot be true when max-file is less than 2 or max-size is not set";
        initialize(&[("compress", "true"), ("max-size", "1m")], text);
    }

    #[test]
    fn rules_have_the_drivers_defaults() {
        let read = |driver: &str, pairs: &[(&str, &str)]| Rules::read(driver, &options(pairs)).unwrap();
        let plain = Rules { max_size: None, max_files: 1, compress: false };
        assert_eq!(read("json-file", &[]), plain);
        assert_eq!(read("local", &[]), Rules { max_size: Some(20_000_000), max_files: 5, compress: true });
        let pairs = [("max-size", "1.5k"), ("max-file", "3"), ("compress", "1")];
        assert_eq!(read("json-file", &pairs), Rules { max_size: Some(1500), max_files: 3, compress: true });
        assert_eq!(bytes("2MiB", 1024), Ok(2 << 20));
        assert_eq!(bytes("10m", 1000), Ok(10_000_000));
    }

    #[test]
    fn attributes_are_chosen() {
        let labels = options(&[("role", "web"), ("com.x.a", "1"), ("other", "2")]);
        let env = ["PATH=/bin".to_owned(), "LEVEL=3".to_owned()];
        let (id, name) = ("0123456789abcdef", "boat");
        let image_id = "sha256:fedcba9876543210";
        let subject = Subject { id, name, image_id, image: "i:t", labels: &labels, env: &env };
        let pairs = [("labels", "role,none"), ("labels-regex", "^com[.]x"), ("env", "LEVEL")];
        let mut wanted = options(&[("role", "web"), ("com.x.a", "1"), ("LEVEL", "3")]);
        assert_eq!(attributes(&options(&pairs), &subject), wanted);
        let tag = options(&[("tag", "{{.Name}}/{{ .ID }}/{{.ImageID}}")]);
        wanted = options(&[("tag", "boat/0123456789ab/fedcba987654")]);
        assert_eq!(attributes(&tag, &subject), wanted);
        assert!(check("json-file", &options(&[("tag", "{{.Nothing}}")])).is_err());
        assert!(check("json-file", &options(&[("env-regex", "(")])).is_err());
    }
}
