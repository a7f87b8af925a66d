//! Leases: who works on something that two could work on. They only save work; every write is checked without them.
//!
//! A lease is an advisory lock of PostgreSQL, which goes with its connection, and a heartbeat on that connection: a
//! holder that hangs keeps its connection, so whoever waits ends it.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use crate::{catalog::Catalog, crash};

const HEARTBEAT: Duration = Duration::from_secs(2);
/// A holder that was silent for this long hangs.
const SILENCE: &str = "20 seconds";

/// Something that this process alone works on, until it is dropped.
#[derive(Debug)]
pub struct Lease {
    beating: AbortOnDropHandle<()>,
}

impl Lease {
    /// Takes the lease `name` if nobody has it, or if its holder hangs.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn try_take(catalog: &Catalog, name: &str) -> Result<Option<Self>> {
        let client = catalog.connect().await?;
        let sql = "SELECT pg_try_advisory_lock(hashtextextended('anabranch lease ' || $1::text, 0))";
        if !client.query_one(sql, &[&name]).await?.get::<_, bool>(0) {
            // The lock is free once the connection is gone; the next try takes it.
            let sql = format!("SELECT pg_terminate_backend(backend) FROM lease WHERE name = $1 AND heartbeat_at < now() - interval '{SILENCE}'");
            crash::step("lease.end_holder", client.query(&sql, &[&name])).await?;
            return Ok(None);
        }
        beat(&client, name).await?;
        let name = name.to_owned();
        let beating = tokio::spawn(async move {
            while beat(&client, &name).await.is_ok() {
                sleep(HEARTBEAT).await;
            }
        });
        Ok(Some(Self { beating: AbortOnDropHandle::new(beating) }))
    }

    /// Whether the connection, and with it the lease, is still there.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.beating.is_finished()
    }
}

async fn beat(client: &Client, name: &str) -> Result<()> {
    let sql = "INSERT INTO lease (name, backend, heartbeat_at) VALUES ($1, pg_backend_pid(), now()) \
               ON CONFLICT (name) DO UPDATE SET backend = EXCLUDED.backend, heartbeat_at = EXCLUDED.heartbeat_at";
    crash::step("lease.beat", client.execute(sql, &[&name])).await?;
    Ok(())
}
