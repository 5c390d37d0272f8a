//! TLS to registries: the system's CA bundle, or no verification for registries that are insecure by
//! configuration or by being on loopback.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::RegistryError;

/// Verifies against the certificates of a PEM file. A bundle that is missing leaves no registry trusted; that
/// is told when one is asked.
pub(super) fn verified(bundle: &Path) -> Result<ClientConfig, RegistryError> {
    let mut roots = RootCertStore::empty();
    if bundle.exists() {
        let failed = |error: &dyn std::fmt::Display| RegistryError::Certificates {
            path: bundle.display().to_string(),
            reason: error.to_string(),
        };
        let certificates = CertificateDer::pem_file_iter(bundle).map_err(|e| failed(&e))?;
        let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|e| failed(&e))?;
        // Bundles hold certificates that rustls cannot use; the others count.
        roots.add_parsable_certificates(certificates);
    }
    Ok(builder().with_root_certificates(roots).with_no_client_auth())
}

/// Accepts any certificate.
pub(super) fn unverified() -> ClientConfig {
    let verifier = Arc::new(AcceptAny(provider()));
    builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring serves the default protocol versions")
}

#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
