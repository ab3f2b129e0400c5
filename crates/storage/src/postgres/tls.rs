//! The address of PostgreSQL and what it says about TLS (rustls; no OpenSSL).
//!
//! | `sslmode` | encrypted | certificate checked |
//! |---|---|---|
//! | `disable` | no | |
//! | `prefer` | if the server offers it | only where `sslrootcert` is given, and then as `verify-ca` |
//! | `require` | yes | only where `sslrootcert` is given, and then as `verify-ca` |
//! | `verify-ca` | yes | issued by a trusted authority |
//! | `verify-full` | yes | issued by a trusted authority, for the name of the host |
//! | absent, all hosts are this machine (Unix socket, loopback) | as `prefer` | |
//! | absent, any other host | as `verify-full` | |
//!
//! `sslrootcert=PATH` names a PEM file of trusted authorities; without it (or as `system`) the
//! `verify-…` modes trust the system's. Connections by Unix socket are never encrypted.

use std::{net::IpAddr, path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use tokio_postgres::{
    Config, Socket,
    config::{Host, SslMode},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::OpenError;

/// Makes TLS connections; unlike what it wraps, it takes a host without a name.
#[derive(Clone)]
pub(super) struct MakeTls(MakeRustlsConnect);

impl MakeTlsConnect<Socket> for MakeTls {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    /// A Unix socket has no name. It is asked for one all the same, and then never used: without a
    /// name no handshake is begun.
    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Self::Error> {
        let host = if host.is_empty() { "localhost" } else { host };
        MakeTlsConnect::<Socket>::make_tls_connect(&mut self.0, host)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// What the url says, and how to make its TLS connections.
pub(super) fn parse(url: &str) -> Result<(Config, MakeTls), OpenError> {
    let (url, said) = take_out(url)?;
    let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        OpenError::Url(source.unwrap_or_else(|| error.to_string()))
    })?;
    let mode = said.mode.unwrap_or(if is_this_machine(&config) { Mode::Prefer } else { Mode::VerifyFull });
    let socket_only = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    config.ssl_mode(match mode {
        Mode::Disable => SslMode::Disable,
        _ if socket_only => SslMode::Disable,
        Mode::Prefer => SslMode::Prefer,
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
    });
    Ok((config, MakeTls(MakeRustlsConnect::new(client_config(mode, said.roots.as_deref())?))))
}

#[derive(Default)]
struct Said {
    mode: Option<Mode>,
    roots: Option<String>,
}

/// Takes out of the url what `tokio_postgres` does not know.
fn take_out(url: &str) -> Result<(String, Said), OpenError> {
    let Some((address, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), Said::default()));
    };
    let mut said = Said::default();
    let mut kept = Vec::new();
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", mode)) => said.mode = Some(mode_named(mode)?),
            Some(("sslrootcert", path)) => said.roots = Some(percent_decoded(path)?),
            _ => kept.push(parameter),
        }
    }
    let separator = if kept.is_empty() { "" } else { "?" };
    Ok((format!("{address}{separator}{}", kept.join("&")), said))
}

fn mode_named(name: &str) -> Result<Mode, OpenError> {
    Ok(match name {
        "disable" => Mode::Disable,
        "prefer" => Mode::Prefer,
        "require" => Mode::Require,
        "verify-ca" => Mode::VerifyCa,
        "verify-full" => Mode::VerifyFull,
        _ => {
            return Err(OpenError::Url(
                "sslmode is one of disable, prefer, require, verify-ca, verify-full".into(),
            ));
        }
    })
}

fn percent_decoded(text: &str) -> Result<String, OpenError> {
    let wrong = || OpenError::Url("sslrootcert is not well percent-encoded".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let digits = part.get(..2).ok_or_else(wrong)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn is_this_machine(config: &Config) -> bool {
    let named = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    });
    named && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

fn client_config(mode: Mode, roots: Option<&str>) -> Result<ClientConfig, OpenError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let verifier: Arc<dyn ServerCertVerifier> = match (mode, roots) {
        (Mode::VerifyFull, roots) => {
            WebPkiServerVerifier::builder_with_provider(trusted(roots)?.into(), provider)
                .build()
                .map_err(failed)?
        }
        (Mode::VerifyCa, _) | (Mode::Prefer | Mode::Require, Some(_)) => {
            Arc::new(Lenient { provider, roots: Some(trusted(roots)?) })
        }
        (Mode::Disable | Mode::Prefer | Mode::Require, _) => Arc::new(Lenient { provider, roots: None }),
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn trusted(roots: Option<&str>) -> Result<RootCertStore, OpenError> {
    let certificates = match roots {
        None | Some("system") => rustls_native_certs::load_native_certs().certs,
        Some(path) => CertificateDer::pem_file_iter(Path::new(path))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| OpenError::Tls(format!("sslrootcert {path}: {error}")))?,
    };
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(OpenError::Tls(
            "no trusted certificate authority found; name a PEM file with sslrootcert=PATH".into(),
        ));
    }
    Ok(store)
}

fn failed(error: impl std::fmt::Display) -> OpenError {
    OpenError::Tls(error.to_string())
}

/// Checks who issued the certificate but not for which name, or (without roots) nothing but that
/// the peer holds the key of the certificate it shows.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(url: &str) -> SslMode {
        parse(url).unwrap().0.get_ssl_mode()
    }

    #[test]
    fn the_default_checks_every_host_but_this_machine() {
        assert_eq!(mode_of("postgres://u@127.0.0.1/d"), SslMode::Prefer);
        assert_eq!(mode_of("postgres://u@localhost/d"), SslMode::Prefer);
        assert_eq!(mode_of("postgres://u@%2Frun%2Fpostgresql/d"), SslMode::Disable);
        assert_eq!(mode_of("postgres:///d?host=/run/postgresql&user=u"), SslMode::Disable);
        assert_eq!(mode_of("postgres://u@127.0.0.1,db.example/d?sslmode=require"), SslMode::Require);
        let remote = take_out("postgres://u@db.example/d").unwrap().0.parse().unwrap();
        assert!(!is_this_machine(&remote));
        let disguised = "postgres://u@localhost/d?hostaddr=192.0.2.1".parse().unwrap();
        assert!(!is_this_machine(&disguised));
    }

    #[test]
    fn a_unix_socket_needs_no_name() {
        let (_, mut tls) = parse("postgres://u@%2Frun%2Fpostgresql/d").unwrap();
        assert!(tls.make_tls_connect("").is_ok());
    }

    #[test]
    fn tls_parameters_are_taken_out() {
        let (url, said) =
            take_out("postgres://h/d?sslmode=verify-ca&user=u&sslrootcert=%2Fetc%2Fca%20x.pem").unwrap();
        assert_eq!(url, "postgres://h/d?user=u");
        assert_eq!(said.mode, Some(Mode::VerifyCa));
        assert_eq!(said.roots.as_deref(), Some("/etc/ca x.pem"));
        assert!(take_out("postgres://h/d?sslmode=allow").is_err());
        assert!(parse("postgres://h/d?sslmode=verify-ca&sslrootcert=/no/such/file").is_err());
    }
}
