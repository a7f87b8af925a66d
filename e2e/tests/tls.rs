//! Safe connections: TLS and a password to Kafka, TLS with a checked name to PostgreSQL.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use anabranch_e2e::{
    Stage,
    clicks::{applied, click, pages, pipeline, produce},
    variable,
};
use anyhow::{Context, Result, ensure};
use openssl::{asn1::Asn1Time, hash::MessageDigest, pkcs12::Pkcs12, pkey::PKey, rsa::Rsa, x509::X509};
use tokio_postgres::Client;

const PASSWORD: &str = "let me in";

/// The certificate of the set of servers, and its key, as PEM.
fn certificate() -> Result<(Vec<u8>, Vec<u8>)> {
    let file = fs::read(Path::new(&variable("ANABRANCH_SERVERS")).join("localhost.p12"))?;
    let opened = Pkcs12::from_der(&file)?.parse2("localhost")?;
    Ok((opened.cert.context("no certificate")?.to_pem()?, opened.pkey.context("no key")?.private_key_to_pem_pkcs8()?))
}

/// Of somebody who signed nothing here.
fn another_authority() -> Result<Vec<u8>> {
    let key = PKey::from_rsa(Rsa::generate(2048)?)?;
    let mut builder = X509::builder()?;
    builder.set_pubkey(&key)?;
    builder.set_not_before(Asn1Time::days_from_now(0)?.as_ref())?;
    builder.set_not_after(Asn1Time::days_from_now(1)?.as_ref())?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok(builder.build().to_pem()?)
}

/// PostgreSQL with TLS, from `begin` to `end`.
struct Safe {
    client: Client,
}

impl Safe {
    async fn begin(stage: &Stage) -> Result<Self> {
        let client = stage.database().await?;
        let folder = PathBuf::from(client.query_one("SHOW data_directory", &[]).await?.get::<_, String>(0));
        let owner = fs::metadata(&folder)?;
        let (certificate, key) = certificate()?;
        for (name, content) in [("server.crt", certificate), ("server.key", key)] {
            let path = folder.join(name);
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            chown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
        client.batch_execute("ALTER SYSTEM SET ssl = on").await?;
        client.batch_execute("SELECT pg_reload_conf()").await?;
        Ok(Self { client })
    }

    /// How many connections of ours are safe, and how many are not.
    async fn connections(&self) -> Result<(i64, i64)> {
        let sql = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) \
                   WHERE application_name = 'anabranch' AND datname = current_database()";
        let row = self.client.query_one(sql, &[]).await?;
        Ok((row.get(0), row.get(1)))
    }

    async fn end(self) -> Result<()> {
        self.client.batch_execute("ALTER SYSTEM RESET ssl").await?;
        self.client.batch_execute("SELECT pg_reload_conf()").await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_safe_where_they_are_asked_to_be() -> Result<()> {
    let name = format!("tls_{}", std::process::id());
    let mut stage = applied(&name, 2, &pipeline(&name, "earliest", "page")).await?;
    let safe = Safe::begin(&stage).await?;
    let authority = stage.folder().join("ca.pem");
    fs::write(&authority, certificate()?.0)?;
    let authority = authority.display().to_string();
    let plain = stage.setting("ANABRANCH_POSTGRES__URL")?;
    let at_localhost = plain.replace("127.0.0.1", "localhost");
    let secret = stage.folder().join("password");
    fs::write(&secret, format!("{PASSWORD}\n"))?;
    stage.set("ANABRANCH_POSTGRES__URL", &format!("{at_localhost}?sslmode=verify-full&sslrootcert={authority}"));
    stage.set("ANABRANCH_KAFKA__BROKERS", &variable("ANABRANCH_TEST_SECURE_KAFKA"));
    for (property, value) in [
        ("SECURITY_PROTOCOL", "SASL_SSL"),
        ("SASL_MECHANISM", "PLAIN"),
        ("SASL_USERNAME", "anabranch"),
        ("SASL_PASSWORD_FILE", &secret.display().to_string()),
        ("SSL_CA_LOCATION", &authority),
    ] {
        stage.set(&format!("ANABRANCH_KAFKA__CLIENT__{property}"), value);
    }
    // Through all layers.
    produce(&name, 0, &[click("a"), click("b"), click("c")])?;
    let process = stage.start(&["run"])?;
    pages(&process, 3).await?;
    let (code, text) = stage.run(&["recompute"])?;
    ensure!(code == Some(0), "{text}");
    pages(&process, 3).await?;
    let (with, without) = safe.connections().await?;
    ensure!(with >= 4 && without == 0, "{with} connections with TLS, {without} without");
    ensure!(process.stop().await?.success());
    refusals(&mut stage, &name, &plain, &at_localhost, &authority)?;
    safe.end().await
}

/// What is not safe is an error that says why, and never what it was let in with.
fn refusals(stage: &mut Stage, topic: &str, plain: &str, at_localhost: &str, authority: &str) -> Result<()> {
    let wrong = stage.folder().join("wrong");
    fs::write(&wrong, "guessed")?;
    let fails = |stage: &mut Stage, setting: &str, value: &str, command: &[&str], code: i32, said: &str| {
        let before = stage.setting(setting)?;
        stage.set(setting, value);
        let (found, text) = stage.run(command)?;
        stage.set(setting, &before);
        ensure!(found == Some(code) && text.contains(said) && !text.contains(PASSWORD), "{setting} = {value}: {found:?} {text}");
        anyhow::Ok(())
    };
    let postgres = "ANABRANCH_POSTGRES__URL";
    // Nobody of this machine signed it.
    fails(stage, postgres, &format!("{at_localhost}?sslmode=verify-full"), &["status"], 3, "certificate verify failed")?;
    fails(stage, postgres, &format!("{plain}?sslmode=maybe"), &["status"], 2, "sslmode \"maybe\" is none of")?;
    fails(stage, postgres, &format!("{plain}?sslrootcert={authority}.not"), &["status"], 2, "sslrootcert")?;
    // Where the machine trusts somebody, `sslrootcert` trusts that authority alone.
    let other = stage.folder().join("other.pem");
    fs::write(&other, another_authority()?)?;
    stage.set("SSL_CERT_FILE", authority);
    fails(stage, postgres, &format!("{at_localhost}?sslmode=verify-full"), &["status"], 0, "")?;
    fails(stage, postgres, &format!("{at_localhost}?sslmode=verify-full&sslrootcert={}", other.display()), &["status"], 3, "certificate verify failed")?;
    stage.unset("SSL_CERT_FILE");
    // Encrypted, unchecked.
    fails(stage, postgres, &format!("{at_localhost}?sslmode=require"), &["status"], 0, "")?;
    let client = "ANABRANCH_KAFKA__CLIENT__";
    fails(stage, &format!("{client}SASL_PASSWORD_FILE"), &wrong.display().to_string(), &["infer", topic], 3, "Authentication failed")?;
    fails(stage, &format!("{client}SSL_CA_LOCATION"), "/etc/hosts", &["infer", topic], 2, "ssl.ca.location")?;
    fails(stage, &format!("{client}SECURITY_PROTOCOL"), "PLAINTEXT", &["infer", topic], 3, "")
}
