//! Starting archive and shared cache.

use std::sync::Arc;
use std::time::Duration;

use das_common::alarm::Alarms;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{StartError, bytes_of};
use crate::archive::{Archive, Bucket, Evictor, Uploader, UploaderOptions, connect};
use crate::options::NodeOptions;
use crate::retrieve::Retrieve;
use crate::shared_cache::SharedCache;
use crate::storage::BatchStore;
use crate::storage::index::Archiving;

/// What these take from the node.
pub(super) struct Base<'a> {
    pub(super) options: &'a NodeOptions,
    /// None: a node that only reads.
    pub(super) store: Option<&'a Arc<BatchStore>>,
    pub(super) retrieve: &'a Retrieve,
    pub(super) alarms: &'a Alarms,
    pub(super) stop: &'a CancellationToken,
}

impl Base<'_> {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(task));
    }
}

/// What was started.
#[derive(Default)]
pub(super) struct Started {
    /// Where the archive is.
    pub(super) bucket: Option<Arc<Bucket>>,
    /// What stores wait for, and for how long.
    pub(super) required: Option<(Archive, Duration)>,
}

/// Opens the archive that the options name. Before anything is stored: what is stored from then on is noted for it.
pub(super) fn open(
    options: &NodeOptions,
    store: Option<&BatchStore>,
) -> Result<Option<Arc<Bucket>>, StartError> {
    let bucket = connect(options)?.map(Arc::new);
    let Some(store) = store else { return Ok(bucket) };
    let (only, known) = (store.archived()?, store.archive_name()?.unwrap_or_default());
    let Some(bucket) = bucket else {
        if only.batches > 0 {
            return Err(StartError::ArchiveGone { batches: only.batches, archive: known });
        }
        store.archive_nowhere()?;
        return Ok(None);
    };
    if only.batches > 0 && known != bucket.name() {
        if !options.archive.accept_move {
            let now = bucket.name().to_owned();
            return Err(StartError::ArchiveMoved { batches: only.batches, archive: known, now });
        }
        warn!(
            from = known,
            to = bucket.name(),
            batches = only.batches,
            "the archive was moved, as the options say"
        );
    }
    if options.archive.read_only {
        store.archive_nowhere()?;
    } else {
        let deletes = options.discards_after_timeout();
        store.archive_to(bucket.name(), Archiving { uploads: true, deletes })?;
    }
    Ok(Some(bucket))
}

/// Starts what works with the archive, and the shared cache.
pub(super) fn start(base: &Base<'_>, bucket: Option<Arc<Bucket>>) -> Result<Started, StartError> {
    start_cache(base)?;
    let Some(bucket) = bucket else { return Ok(Started::default()) };
    let options = &base.options.archive;
    let store = base.store.filter(|_| !options.read_only);
    info!(archive = bucket.name(), writes = store.is_some(), "every batch is in the archive too");
    let watched = Arc::clone(&bucket);
    let (writes, alarm_after, alarms) = (store.is_some(), options.alarm_after, base.alarms.clone());
    base.spawn(async move { watched.watch(writes, alarm_after, alarms).await });
    let Some(store) = store else {
        base.retrieve.read_from(Archive::new(Arc::clone(&bucket), None));
        return Ok(Started { bucket: Some(bucket), required: None });
    };
    let uploads = UploaderOptions { in_flight: options.uploads_in_flight };
    let (uploader, urgent) =
        Uploader::new(Arc::clone(store), Arc::clone(&bucket), base.retrieve.clone(), uploads);
    base.spawn(uploader.run());
    base.spawn(Uploader::watch(
        Arc::clone(store),
        Arc::clone(&bucket),
        options.alarm_after,
        base.alarms.clone(),
    ));
    if !options.local_retention.is_zero() {
        let retention = options.local_retention;
        let evictor = Evictor { store: Arc::clone(store), bucket: Arc::clone(&bucket), retention };
        base.spawn(evictor.run());
    }
    let archive = Archive::new(Arc::clone(&bucket), Some(urgent));
    base.retrieve.read_from(archive.clone());
    let required = options.required.then_some((archive, options.required_timeout));
    Ok(Started { bucket: Some(bucket), required })
}

fn start_cache(base: &Base<'_>) -> Result<(), StartError> {
    let options = &base.options.data_availability.redis_cache;
    if options.enable {
        let max_batch = bytes_of(base.options.limits.max_message_size).max(base.options.rpc_body_limit());
        let (cache, writer) = SharedCache::new(options, max_batch)?;
        base.spawn(writer.run(base.alarms.clone()));
        base.retrieve.share(cache);
    }
    Ok(())
}
