//! The registry's authentication: `WWW-Authenticate`, tokens and passwords.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Uri};
use serde::Deserialize;

use super::RegistryError;
use super::http::{Asked, Http, Trust, collect, nonsense};

/// Longest token answer, in bytes.
const TOKEN_MAX: usize = 1 << 20;

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user with a password.
    Password {
        /// The user.
        username: String,
        /// Its password.
        password: String,
    },
    /// A refresh token from an earlier login.
    IdentityToken(String),
    /// A token that is sent to the registry as it is.
    RegistryToken(String),
}

/// Never shows a secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Anonymous => f.write_str("Anonymous"),
            Credentials::Password { username, .. } => write!(f, "Password({username})"),
            Credentials::IdentityToken(_) => f.write_str("IdentityToken"),
            Credentials::RegistryToken(_) => f.write_str("RegistryToken"),
        }
    }
}

/// One `WWW-Authenticate` challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The first challenge we can answer.
    pub(super) fn read(headers: &HeaderMap) -> Option<Challenge> {
        let values = headers.get_all(hyper::header::WWW_AUTHENTICATE);
        values.iter().filter_map(|value| value.to_str().ok()).find_map(parse_challenge)
    }

    /// The `Authorization` header that answers it, or `None` when there is nothing to answer with.
    pub(super) async fn answer(
        &self,
        http: &Http,
        trust: Trust,
        credentials: &Credentials,
        scope: &str,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        if let Credentials::RegistryToken(token) = credentials {
            return Ok(secret(format!("Bearer {token}")));
        }
        match self {
            Challenge::Basic => Ok(basic(credentials)),
            Challenge::Bearer { realm, service, scope: asked } => {
                let scope = asked.as_deref().unwrap_or(scope);
                let request = token_request(realm, service.as_deref(), scope, credentials)?;
                let token = fetch_token(http, trust, request).await?;
                Ok(secret(format!("Bearer {token}")))
            }
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

async fn fetch_token(http: &Http, trust: Trust, request: Asked) -> Result<String, RegistryError> {
    let url = request.url.clone();
    let response = http.send(request, trust).await?;
    let status = response.status().as_u16();
    let body = collect(&url, response, TOKEN_MAX).await?;
    if status != 200 {
        return Err(RegistryError::from_answer(status, &body));
    }
    let answer: TokenAnswer =
        serde_json::from_slice(&body).map_err(|error| nonsense(&url, &format!("no token: {error}")))?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() {
        Err(nonsense(&url, "authorization server did not include a token"))
    } else {
        Ok(token)
    }
}

/// A GET with the password, or the OAuth2 POST for a refresh token (distribution's token specification).
fn token_request(
    realm: &str,
    service: Option<&str>,
    scope: &str,
    credentials: &Credentials,
) -> Result<Asked, RegistryError> {
    // A login asks for nothing in particular.
    let mut fields = if scope.is_empty() { vec![] } else { vec![("scope", scope)] };
    fields.extend(service.map(|service| ("service", service)));
    let mut headers = HeaderMap::new();
    if let Credentials::IdentityToken(token) = credentials {
        fields.extend([("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "docker")]);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let url = parse_realm(realm.to_owned())?;
        return Ok(Asked { method: Method::POST, url, headers, body: Bytes::from(encode(&fields)) });
    }
    if let Credentials::Password { username, .. } = credentials {
        fields.push(("account", username));
    }
    headers.extend(basic(credentials).map(|value| (AUTHORIZATION, value)));
    let separator = if realm.contains('?') { '&' } else { '?' };
    let url = parse_realm(format!("{realm}{separator}{}", encode(&fields)))?;
    Ok(Asked { method: Method::GET, url, headers, body: Bytes::new() })
}

fn parse_realm(url: String) -> Result<Uri, RegistryError> {
    url.parse()
        .map_err(|_| RegistryError::Nonsense { url, reason: "the token realm is no address".to_owned() })
}

fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Password { username, password } = credentials else { return None };
    secret(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `application/x-www-form-urlencoded`.
fn encode(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Docker Hub's answer for a repository that does not exist or is private (RFC 6750, section 3.1).
pub(super) fn lacks_scope(headers: &HeaderMap) -> bool {
    let values = headers.get_all(hyper::header::WWW_AUTHENTICATE);
    let texts = values.iter().filter_map(|value| value.to_str().ok());
    let rests = texts.filter_map(|text| text.trim().split_once(' '));
    let mut all = rests.flat_map(|(_, rest)| parameters(rest));
    all.any(|(name, value)| name.eq_ignore_ascii_case("error") && value == "insufficient_scope")
}

fn parse_challenge(text: &str) -> Option<Challenge> {
    let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    for (name, value) in parameters(rest) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

/// `name="value",name=value`; a backslash in quotes takes the next character as it is (RFC 9110, 5.6.4).
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => rest.split_once(',').map_or((rest.to_owned(), ""), |(v, rest)| (v.to_owned(), rest)),
        };
        found.push((name.trim().to_owned(), value));
        text = rest.trim_start_matches([',', ' ']);
    }
    found
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) })
    }

    #[test]
    fn challenges_are_read() {
        for (text, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://a.test/token\",service=\"r\",scope=\"repository:a/b:pull,push\"",
                bearer("https://a.test/token", Some("r"), Some("repository:a/b:pull,push")),
            ),
            ("bearer realm=https://a.test, service=r", bearer("https://a.test", Some("r"), None)),
            ("Bearer realm=\"a\\\"b\"", bearer("a\"b", None, None)),
            ("Bearer service=\"r\"", None),
            ("Negotiate", None),
            ("Bearer realm=\"open", bearer("open", None, None)),
        ] {
            assert_eq!(parse_challenge(text), expected, "{text}");
        }
    }

    #[test]
    fn token_requests_carry_the_credentials() {
        let credentials = Credentials::Password { username: "me".into(), password: "s".into() };
        let asked =
            token_request("https://a.test/t", Some("r x"), "repository:a:pull", &credentials).unwrap();
        let expected = "https://a.test/t?scope=repository%3Aa%3Apull&service=r+x&account=me";
        assert_eq!(asked.url.to_string(), expected);
        assert_eq!(asked.headers[AUTHORIZATION], "Basic bWU6cw==");
        let asked =
            token_request("https://a.test/t", None, "s", &Credentials::IdentityToken("i".into())).unwrap();
        assert_eq!(asked.method, Method::POST);
        assert_eq!(&asked.body[..], b"scope=s&grant_type=refresh_token&refresh_token=i&client_id=docker");
    }
}
