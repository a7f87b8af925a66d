//! TLS to PostgreSQL, in libpq's words: `sslmode`, `sslrootcert`, `sslcert` and `sslkey` in the URL.
//!
//! | `sslmode` | |
//! |---|---|
//! | `disable` | never |
//! | `prefer`, and without one | where the server offers it; who it is, is not checked |
//! | `require` | always; as `verify-ca` where `sslrootcert` names authorities |
//! | `verify-ca` | an authority that is trusted must have signed its certificate: one of `sslrootcert`, else of this machine |
//! | `verify-full` | and the certificate must name the host |

use std::{convert::Infallible, error::Error, pin::Pin, sync::OnceLock};

use openssl::{
    ssl::{SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode},
    x509::store::X509StoreBuilder,
};
use postgres_openssl::{MakeTlsConnector, TlsStream};
use tokio_postgres::{
    Socket,
    tls::{MakeTlsConnect, TlsConnect},
};

use crate::failure::Refused;

/// How much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Nothing,
    Authority,
    Host,
}

/// The words of an address.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    mode: Option<String>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

/// The address without what the client does not know, and who makes its connections safe.
///
/// # Errors
/// [`Refused`] for an unknown mode, or a file that cannot be read.
pub(super) fn secured(address: &str) -> Result<(String, Tls), Refused> {
    let (mut rest, words) = split(address);
    let mode = words.mode.as_deref().unwrap_or("prefer");
    let (known, check) = match (mode, &words.root) {
        ("disable", _) => ("disable", Check::Nothing),
        ("allow" | "prefer", _) => ("prefer", Check::Nothing),
        ("require", None) => ("require", Check::Nothing),
        ("require" | "verify-ca", _) => ("require", Check::Authority),
        ("verify-full", _) => ("require", Check::Host),
        _ => return Err(refused(&format!("sslmode \"{mode}\" is none of disable, prefer, require, verify-ca, verify-full"))),
    };
    let separator = match (rest.contains("://"), rest.contains('?')) {
        (true, false) => '?',
        (true, true) => '&',
        (false, _) => ' ',
    };
    rest.push_str(&format!("{separator}sslmode={known}"));
    let is_plain = check == Check::Nothing && (&words.root, &words.certificate, &words.key) == (&None, &None, &None);
    let connector = if is_plain { None } else { Some(connector(check, &words)?) };
    Ok((rest, Tls { connector }))
}

/// Makes connections safe: by its connector, else by one that checks nothing.
#[derive(Clone)]
pub(super) struct Tls {
    connector: Option<MakeTlsConnector>,
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = TlsStream<Socket>;
    type TlsConnect = Handshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Infallible> {
        Ok(Handshake { connector: self.connector.clone(), host: host.to_owned() })
    }
}

/// With a server that offers TLS.
pub(super) struct Handshake {
    connector: Option<MakeTlsConnector>,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = TlsStream<Socket>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let mut connector = self.connector.map_or_else(unchecked, Ok)?;
            MakeTlsConnect::<Socket>::make_tls_connect(&mut connector, &self.host)?.connect(stream).await
        })
    }
}

/// Made once, and where a server offers TLS: making one reads the authorities of this machine, as much to compute as all else of a start.
fn unchecked() -> Result<MakeTlsConnector, Refused> {
    static MADE: OnceLock<MakeTlsConnector> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let made = connector(Check::Nothing, &Words::default())?;
    Ok(MADE.get_or_init(|| made).clone())
}

fn connector(check: Check, words: &Words) -> Result<MakeTlsConnector, Refused> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(|error| refused(&format!("TLS: {error}")))?;
    if check == Check::Nothing {
        builder.set_verify(SslVerifyMode::NONE);
    }
    files(&mut builder, words)?;
    let mut connector = MakeTlsConnector::new(builder.build());
    connector.set_callback(move |connection, _| {
        connection.set_verify_hostname(check == Check::Host);
        Ok(())
    });
    Ok(connector)
}

fn files(builder: &mut SslConnectorBuilder, words: &Words) -> Result<(), Refused> {
    // Without it those count that this machine trusts; with it, as in libpq, nobody else.
    if let Some(path) = words.root.as_ref().filter(|path| *path != "system") {
        let nobody = X509StoreBuilder::new().map_err(|error| refused(&format!("TLS: {error}")))?;
        builder.set_cert_store(nobody.build());
        builder.set_ca_file(path).map_err(|error| refused(&format!("sslrootcert {path}: {error}")))?;
    }
    if let Some(path) = &words.certificate {
        builder.set_certificate_chain_file(path).map_err(|error| refused(&format!("sslcert {path}: {error}")))?;
    }
    if let Some(path) = &words.key {
        builder.set_private_key_file(path, SslFiletype::PEM).map_err(|error| refused(&format!("sslkey {path}: {error}")))?;
    }
    Ok(())
}

fn refused(what: &str) -> Refused {
    Refused(format!("setting postgres.url: {what}"))
}

/// Takes the words out of a URL, or out of `host=… sslmode=…`.
fn split(address: &str) -> (String, Words) {
    let (start, list, separator) = match address.split_once('?') {
        Some((start, list)) if address.contains("://") => (start, list, '&'),
        _ if address.contains("://") => (address, "", '&'),
        _ => ("", address, ' '),
    };
    let mut words = Words::default();
    let mut kept = Vec::new();
    for parameter in list.split(separator).filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let word = match name {
            "sslmode" => &mut words.mode,
            "sslrootcert" => &mut words.root,
            "sslcert" => &mut words.certificate,
            "sslkey" => &mut words.key,
            _ => {
                kept.push(parameter);
                continue;
            }
        };
        *word = Some(value.replace("%2F", "/").replace("%2f", "/"));
    }
    let kept = kept.join(&separator.to_string());
    let between = if start.is_empty() || kept.is_empty() { "" } else { "?" };
    (format!("{start}{between}{kept}"), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_taken_out_and_all_else_stays() {
        let words = |mode: &str, root: Option<&str>| Words { mode: Some(mode.to_owned()), root: root.map(str::to_owned), ..Words::default() };
        assert_eq!(split("postgres://u:p@h:1/d"), ("postgres://u:p@h:1/d".to_owned(), Words::default()));
        assert_eq!(
            split("postgres://u@h/d?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fca.pem"),
            ("postgres://u@h/d?connect_timeout=3".to_owned(), words("verify-full", Some("/ca.pem")))
        );
        assert_eq!(split("host=h sslmode=require dbname=d"), ("host=h dbname=d".to_owned(), words("require", None)));
        for (address, rest) in [
            ("postgres://h/d", "postgres://h/d?sslmode=prefer"),
            ("postgres://h/d?a=1&sslmode=verify-ca", "postgres://h/d?a=1&sslmode=require"),
            ("host=h sslmode=disable", "host=h sslmode=disable"),
        ] {
            assert_eq!(secured(address).unwrap().0, rest);
        }
    }

    #[test]
    fn wrong_words_are_refused() {
        let refusal = |address: &str| secured(address).err().unwrap().0;
        assert_eq!(refusal("postgres://h/d?sslmode=yes"), "setting postgres.url: sslmode \"yes\" is none of disable, prefer, require, verify-ca, verify-full");
        assert!(refusal("postgres://h/d?sslrootcert=/nowhere.pem").starts_with("setting postgres.url: sslrootcert /nowhere.pem: "));
    }
}
