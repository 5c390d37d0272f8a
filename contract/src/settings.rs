//! The settings of one boot: `key=value` words in `init`'s argv.
//!
//! The kernel hands to `init` every word of its command line behind `--`
//! (Documentation/admin-guide/kernel-parameters), and the namespace backend passes the same words itself, so
//! both kinds of boot are told the same way. `init` hands them to `engined` unchanged. Every container can read them in
//! /proc/cmdline, so they say only what a boot needs; all else is in the configuration document (`contract::config`).

use std::net::Ipv4Addr;

/// Where this boot runs: `backend=vm` (default) or `backend=namespace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// A virtual or real machine of its own.
    #[default]
    Vm,
    /// PID 1 of new namespaces on a Linux host.
    Namespace,
}

/// What `init` does when a boot phase fails or it must give up: `on-failure=poweroff|reboot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Switch the machine off (default).
    #[default]
    PowerOff,
    /// Start again.
    Reboot,
}

/// How the first network card gets its address: `net=dhcp`, `net=none` or
/// `net=static,ADDR/PREFIX,GATEWAY,DNS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Net {
    /// Ask by DHCP (default).
    #[default]
    Dhcp,
    /// Only the loopback interface.
    None,
    /// A fixed IPv4 configuration.
    Static {
        /// Address of the card.
        address: Ipv4Addr,
        /// Prefix length of the address, 0 to 32.
        prefix: u8,
        /// Default route.
        gateway: Ipv4Addr,
        /// Resolver.
        dns: Ipv4Addr,
    },
}

/// Where the configuration document comes from: `config=line`; without the word there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConfigSource {
    /// There is none (default): the engine has its usual configuration.
    #[default]
    None,
    /// The host sends it over the control line, and no engine is started before.
    Line,
}

/// The settings of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// See [`Backend`].
    pub backend: Backend,
    /// See [`OnFailure`].
    pub on_failure: OnFailure,
    /// See [`Net`].
    pub net: Net,
    /// `hostname=`; DHCP's or `pinnace` where absent.
    pub hostname: Option<String>,
    /// `data=`: serial number of the data disk's block device, or a path below /dev. Absent in the namespace
    /// backend, where the folder is mounted already.
    pub data: Option<String>,
    /// `data-wait=SECONDS`: how long that device is waited for; 5 where absent. A cloud attaches disks minutes after the
    /// machine's start.
    pub data_wait: Option<u32>,
    /// See [`ConfigSource`].
    pub config: ConfigSource,
    /// `log=`: the engine's tracing level (`error` to `trace`; `info` where absent).
    pub log: Option<String>,
}

/// Why a word of the settings was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// The word's value is not of its key's form.
    #[error("setting {key}={value} is not valid: expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// The value as given.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
}

impl Settings {
    /// Reads `key=value` words. Words without a known key are returned beside the settings, since the kernel
    /// passes on words it does not know itself.
    pub fn parse<'a>(
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<(Settings, Vec<String>), SettingError> {
        let mut settings = Settings::default();
        let mut unknown = Vec::new();
        for word in words {
            match word.split_once('=') {
                Some((key, value)) if settings.set(key, value)? => {}
                _ => unknown.push(word.to_owned()),
            }
        }
        Ok((settings, unknown))
    }

    fn set(&mut self, key: &str, value: &str) -> Result<bool, SettingError> {
        let bad = |expected| SettingError::Value { key: key.to_owned(), value: value.to_owned(), expected };
        match key {
            "backend" => {
                self.backend = match value {
                    "vm" => Backend::Vm,
                    "namespace" => Backend::Namespace,
                    _ => return Err(bad("vm or namespace")),
                }
            }
            "on-failure" => {
                self.on_failure = match value {
                    "poweroff" => OnFailure::PowerOff,
                    "reboot" => OnFailure::Reboot,
                    _ => return Err(bad("poweroff or reboot")),
                }
            }
            "net" => {
                self.net =
                    parse_net(value).ok_or_else(|| bad("dhcp, none or static,ADDR/PREFIX,GATEWAY,DNS"))?
            }
            "hostname" => self.hostname = Some(value.to_owned()),
            "data" => self.data = Some(value.to_owned()),
            "data-wait" => {
                self.data_wait = Some(value.parse().map_err(|_| bad("a number of seconds"))?);
            }
            "config" => {
                self.config = match value {
                    "line" => ConfigSource::Line,
                    _ => return Err(bad("line")),
                }
            }
            "log" => self.log = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The words that [`Settings::parse`] reads back as the same settings.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![match self.backend {
            Backend::Vm => "backend=vm".to_owned(),
            Backend::Namespace => "backend=namespace".to_owned(),
        }];
        if self.on_failure == OnFailure::Reboot {
            words.push("on-failure=reboot".to_owned());
        }
        match self.net {
            Net::Dhcp => {}
            Net::None => words.push("net=none".to_owned()),
            Net::Static { address, prefix, gateway, dns } => {
                words.push(format!("net=static,{address}/{prefix},{gateway},{dns}"))
            }
        }
        let optional = [("hostname", &self.hostname), ("data", &self.data), ("log", &self.log)];
        words.extend(optional.iter().filter_map(|(k, v)| v.as_ref().map(|v| format!("{k}={v}"))));
        words.extend(self.data_wait.map(|seconds| format!("data-wait={seconds}")));
        if self.config == ConfigSource::Line {
            words.push("config=line".to_owned());
        }
        words
    }
}

fn parse_net(value: &str) -> Option<Net> {
    match value {
        "dhcp" => return Some(Net::Dhcp),
        "none" => return Some(Net::None),
        _ => {}
    }
    let mut parts = value.strip_prefix("static,")?.split(',');
    let (address, prefix) = parts.next()?.split_once('/')?;
    let net = Net::Static {
        address: address.parse().ok()?,
        prefix: prefix.parse().ok().filter(|p| *p <= 32)?,
        gateway: parts.next()?.parse().ok()?,
        dns: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: Result<Settings, &'static str>) {
        let got = Settings::parse(words.iter().copied());
        match (got, expected) {
            (Ok((settings, unknown)), Ok(want)) => {
                assert_eq!(settings, want);
                assert!(unknown.is_empty(), "{unknown:?}");
                let again = settings.words();
                assert_eq!(Settings::parse(again.iter().map(String::as_str)).unwrap().0, want);
            }
            (Err(error), Err(want)) => assert_eq!(error.to_string(), want),
            (got, want) => panic!("{words:?}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn words_become_settings_and_back() {
        check(&[], Ok(Settings::default()));
        check(
            &["backend=namespace", "net=none", "log=debug", "config=line", "data-wait=300"],
            Ok(Settings {
                backend: Backend::Namespace,
                net: Net::None,
                log: Some("debug".into()),
                config: ConfigSource::Line,
                data_wait: Some(300),
                ..Settings::default()
            }),
        );
        let net = Net::Static {
            address: Ipv4Addr::new(10, 0, 0, 2),
            prefix: 30,
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            dns: Ipv4Addr::new(1, 1, 1, 1),
        };
        check(&["net=static,10.0.0.2/30,10.0.0.1,1.1.1.1"], Ok(Settings { net, ..Settings::default() }));
        check(&["data-wait=-1"], Err("setting data-wait=-1 is not valid: expected a number of seconds"));
        check(&["config=fax"], Err("setting config=fax is not valid: expected line"));
        check(&["backend=x"], Err("setting backend=x is not valid: expected vm or namespace"));
        check(
            &["net=static,10.0.0.2/33,10.0.0.1,1.1.1.1"],
            Err(
                "setting net=static,10.0.0.2/33,10.0.0.1,1.1.1.1 is not valid: expected dhcp, none or static,ADDR/PREFIX,GATEWAY,DNS",
            ),
        );
    }

    #[test]
    fn unknown_words_are_told() {
        let (settings, unknown) = Settings::parse(["splash", "a=b"]).unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(unknown, ["splash", "a=b"]);
    }
}
