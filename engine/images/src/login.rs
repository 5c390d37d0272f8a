//! Asking a registry whether it knows a user. Nothing is kept: clients send their credentials with each request.

use super::registry::Credentials;
use super::{ImageError, Images};
use model::reference::Reference;

/// Docker Hub's name in references.
const HUB: &str = "docker.io";

impl Images {
    /// Logs in at the registry of that address: `host[:port]`, an URL, or empty for Docker Hub.
    ///
    /// # Errors
    /// The registry cannot be reached or does not let the user in.
    pub async fn login(&self, address: &str, credentials: Credentials) -> Result<(), ImageError> {
        let domain = domain(address);
        // The name is never asked for, only its server.
        let name = Reference::parse(&format!("{domain}/login"))?;
        if name.domain() != domain {
            return Err(ImageError::Invalid(format!("invalid registry address: {address}")));
        }
        Ok(self.shared.registry.login(&name, credentials).await?)
    }
}

fn domain(address: &str) -> &str {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    match bare.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => HUB,
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_domain() {
        let check = |address: &str, expected: &str| assert_eq!(domain(address), expected, "{address}");
        check("", "docker.io");
        check("https://index.docker.io/v1/", "docker.io");
        check("localhost:5000", "localhost:5000");
        check("http://registry.test/v2/", "registry.test");
    }
}
