//! Query strings as Docker's clients write them.

use std::collections::BTreeMap;

use crate::reply::ApiError;

/// Decoded `key=value` pairs, in order.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part behind `?`.
    pub fn parse(text: &str) -> Query {
        Query(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value; an empty one counts as absent.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// Every value of a key that may come several times.
    pub fn all(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.as_str()).collect()
    }

    /// Docker's booleans: absent, empty, `0`, `no`, `false` and `none` are false, all else is true.
    pub fn flag(&self, key: &str) -> bool {
        self.flag_or(key, false)
    }

    /// [`Query::flag`] with a value for an absent key.
    pub fn flag_or(&self, key: &str, absent: bool) -> bool {
        match self.0.iter().find(|(k, _)| k == key) {
            None => absent,
            Some((_, value)) => {
                let value = value.trim().to_ascii_lowercase();
                !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
            }
        }
    }

    /// A number.
    ///
    /// # Errors
    /// 400 where the value is none.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| ApiError::bad_request(format!("invalid value for {key}: {text:?}")))
        };
        self.get(key).map(parse).transpose()
    }

    /// The `filters` parameter.
    ///
    /// # Errors
    /// 400 for broken JSON, and for a key that is not in `known`.
    pub fn filters(&self, known: &[&str]) -> Result<Filters, ApiError> {
        let filters = self.all_filters()?;
        match filters.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(ApiError::bad_request(format!("invalid filter '{key}'"))),
            None => Ok(filters),
        }
    }
}

impl Query {
    /// The `filters` parameter where unknown keys mean nothing.
    ///
    /// # Errors
    /// 400 for broken JSON.
    pub fn all_filters(&self) -> Result<Filters, ApiError> {
        self.get("filters").map_or_else(|| Ok(Filters::default()), Filters::parse)
    }
}

/// Key → wanted values: values of one key are alternatives, keys must all match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(pub BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads `{"key":{"value":true}}` and `{"key":["value"]}`.
    fn parse(text: &str) -> Result<Filters, ApiError> {
        let bad = || ApiError::bad_request("invalid filter");
        let value: serde_json::Value = serde_json::from_str(text).map_err(|_| bad())?;
        let mut filters = BTreeMap::new();
        for (key, values) in value.as_object().ok_or_else(bad)? {
            let values: Vec<String> = match values {
                serde_json::Value::Object(map) => {
                    map.iter().filter(|(_, set)| **set == true).map(|(value, _)| value.clone()).collect()
                }
                serde_json::Value::Array(list) => {
                    let words = list.iter().map(|value| value.as_str().map(str::to_owned));
                    words.collect::<Option<_>>().ok_or_else(bad)?
                }
                _ => return Err(bad()),
            };
            if !values.is_empty() {
                filters.insert(key.clone(), values);
            }
        }
        Ok(Filters(filters))
    }

    /// The wanted values of a key; `None` where all are.
    pub fn get(&self, key: &str) -> Option<&[String]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// Whether any wanted value of `key` satisfies `test`, or none is wanted.
    pub fn allows(&self, key: &str, test: impl FnMut(&String) -> bool) -> bool {
        self.get(key).is_none_or(|values| values.iter().any(test))
    }

    /// Whether all wanted `key` or `key=value` labels are there.
    pub fn allows_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.get("label").is_none_or(|wanted| wanted.iter().all(has))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_dockers() {
        for text in ["", "a=", "a=0", "a=no", "a=False", "a=none", "a=%20false"] {
            assert!(!Query::parse(text).flag("a"), "{text}");
        }
        for text in ["a=1", "a=True", "a=true", "a=x"] {
            assert!(Query::parse(text).flag("a"), "{text}");
        }
    }

    #[test]
    fn filters_come_in_two_forms() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let filters = Filters::parse(text).ok();
            let got = filters.map(|filters| filters.get("label").unwrap_or_default().to_vec());
            assert_eq!(got, expected.map(|words| words.iter().map(|w| (*w).to_owned()).collect()), "{text}");
        };
        check(r#"{"label":{"a=b":true,"c":false}}"#, Some(&["a=b"]));
        check(r#"{"label":["a=b","c"]}"#, Some(&["a=b", "c"]));
        check("{}", Some(&[]));
        check("{", None);
        check(r#"{"label":3}"#, None);
        let query = Query::parse("filters=%7B%22x%22%3A%5B%22y%22%5D%7D");
        assert!(query.filters(&["label"]).is_err());
    }

    #[test]
    fn text_is_decoded() {
        let query = Query::parse("k%2F=a%2Fb+c%zz&&x");
        assert_eq!((query.get("k/"), query.get("x")), (Some("a/b c%zz"), None));
    }
}
