//! The catalog: what PostgreSQL knows of sources, partitions, epochs, runs and versions.
//!
//! | file | what |
//! |---|---|
//! | [`definitions`] | applying a pipeline, and reading what is applied |
//! | [`cost`] | what applying makes the next runs read |
//! | [`live`] | live rows: upserts and reads |
//! | [`published`] | views that SQL reads in PostgreSQL |
//! | [`rows`] | the rows that the protocol decides on |
//! | `tls.rs` | safe connections |
//!
//! All tables lie in the schema `anabranch`. One order of locks everywhere: source → partitions, ascending → epoch →
//! live rows.

use std::{fmt, future::Future, str::FromStr, time::Duration};

use anyhow::{Context, Result};
use postgres_openssl::TlsStream;
use refinery::error::Kind;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Connection, Socket, config::Host};
use tracing::error;

use crate::{
    crash,
    failure::{Refused, Unreachable},
};

pub mod cost;
pub mod definitions;
pub mod live;
pub mod published;
pub mod rows;
mod tls;

/// A server that does not accept a connection within this time counts as not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Held while tables are made, so that processes that start together do not race.
const MIGRATION_LOCK: i64 = 0x616e_6162_7261_6e63;

mod embedded {
    refinery::embed_migrations!("src/catalog/migrations");
}

/// A transaction of a worker takes less; a server that hangs keeps no limit of its own.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Waits for the database, but not for ever: one that is stopped or cut off would hold the caller.
///
/// # Errors
/// Those of the statement, or that there was no answer in time: its outcome is unknown.
pub async fn answered<T, E>(statement: impl Future<Output = Result<T, E>>) -> Result<T>
where
    anyhow::Error: From<E>,
{
    Ok(timeout(ANSWER_LIMIT, statement).await.context("PostgreSQL did not answer in time")??)
}

/// The place of the catalog; connections are made from it.
#[derive(Clone)]
pub struct Catalog {
    config: Config,
    tls: tls::Tls,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Catalog {
    /// The catalog at `url`; nothing is asked of it yet.
    ///
    /// # Errors
    /// When the address cannot be read.
    pub fn at(url: &str) -> Result<Self> {
        let (url, tls) = tls::secured(url)?;
        let mut config = Config::from_str(&url).map_err(|error| Refused(format!("setting postgres.url: {error}")))?;
        // A process that hangs, or that nothing is heard of any more, must not keep the locks of a transaction that it began.
        let options = "-c search_path=anabranch -c timezone=UTC -c idle_in_transaction_session_timeout=10s";
        config.connect_timeout(CONNECT_LIMIT).options(options).application_name("anabranch");
        config.keepalives_idle(Duration::from_secs(10)).tcp_user_timeout(Duration::from_secs(30));
        Ok(Self { config, tls })
    }

    /// Host, port and database, without secrets.
    #[must_use]
    pub fn address(&self) -> String {
        let host = self.config.get_hosts().first().map_or_else(String::new, |host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        });
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        format!("{host}:{port}/{}", self.config.get_dbname().unwrap_or("anabranch"))
    }

    /// A new connection, for a caller that drives it itself.
    ///
    /// # Errors
    /// [`Unreachable`].
    pub async fn open(&self) -> Result<(Client, Connection<Socket, TlsStream<Socket>>), Unreachable> {
        let unreachable = |cause: tokio_postgres::Error| Unreachable { service: "PostgreSQL", address: self.address(), cause: cause.into() };
        self.config.connect(self.tls.clone()).await.map_err(unreachable)
    }

    /// A new connection.
    ///
    /// # Errors
    /// [`Unreachable`].
    pub async fn connect(&self) -> Result<Client> {
        let (client, connection) = self.open().await?;
        tokio::spawn(async move {
            // The client's next call fails and says so; here only what no call would show.
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "lost a connection to PostgreSQL");
            }
        });
        Ok(client)
    }

    /// Makes or completes the tables.
    ///
    /// # Errors
    /// [`Unreachable`], or when a newer program made them.
    pub async fn migrate(&self) -> Result<()> {
        let mut client = self.connect().await?;
        client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await?;
        client.batch_execute("SET client_min_messages = warning").await?;
        crash::step("catalog.schema", client.batch_execute("CREATE SCHEMA IF NOT EXISTS anabranch")).await?;
        let migrated = crash::step("catalog.migrate", embedded::migrations::runner().set_abort_missing(true).run_async(&mut client)).await;
        // The lock goes with the connection if this fails.
        if let Err(error) = client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await {
            error!(%error, "could not release the lock of the migrations");
        }
        match migrated {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), Kind::Connection(..)) => Err(error).context("migrate the catalog"),
            Err(error) => Err(Refused(format!("the catalog's tables are those of another anabranch: {error}")).into()),
        }
    }
}
