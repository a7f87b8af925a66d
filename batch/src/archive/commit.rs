//! Making a sealed file visible: one rename that never overwrites.

use anabranch_core::protocol::archive::{self, Outcome};
use anabranch_process::{Warehouse, archive::footer, warehouse::WarehouseError};
use anyhow::{Result, bail};
use tracing::{debug, info};

use super::file::SealedFile;

/// A rename whose reply was lost is looked at and tried again this often.
const TRIES: u32 = 5;

/// Whose file is visible now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    /// Ours.
    Won,
    /// Another archiver's: go on from the end that it has.
    Lost,
}

/// Renames `sealed` to its place. What is really there decides, not the reply: it may have been lost.
pub(super) async fn commit(warehouse: &Warehouse, source: &str, sealed: &SealedFile) -> Result<Committed> {
    let target = sealed.name.path(source);
    for _ in 0..TRIES {
        let reply = warehouse.rename_new(&sealed.temporary, &target).await;
        if reply.is_ok() {
            info!(
                path = target,
                start = sealed.range.start.0,
                end = sealed.range.end.0,
                records = sealed.records,
                bytes = sealed.size_bytes,
                "committed archive file"
            );
            return Ok(Committed::Won);
        }
        debug!(path = target, ?reply, "looking who won a rename");
        let uuid = match footer::read(warehouse, &target).await {
            Ok(footer) => Some(footer.uuid),
            Err(error) if error.chain().any(|cause| matches!(cause.downcast_ref(), Some(WarehouseError::NotFound(_)))) => None,
            Err(error) => return Err(error.context("look who won a rename")),
        };
        let exists = match warehouse.size_bytes(&sealed.temporary).await {
            Ok(_) => true,
            Err(WarehouseError::NotFound(_)) => false,
            Err(error) => return Err(error.into()),
        };
        match archive::outcome(sealed.uuid, uuid, exists) {
            Outcome::Won => return Ok(Committed::Won),
            Outcome::Lost | Outcome::Vanished => {
                warehouse.remove(&sealed.temporary).await?;
                return Ok(Committed::Lost);
            }
            Outcome::Again => {}
        }
    }
    bail!("{target} could not be committed in {TRIES} tries")
}
