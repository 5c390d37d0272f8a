//! One layer: from the network to its blob and its folder in one pass.
//!
//! ```text
//!                      ┌─► write the blob, sha256 = the manifest's digest? ─┐
//!   network ─► chunks ─┤                                                    ├─► rename ─► index
//!                      └─► decompress, sha256 = diff id?, extract ──────────┘
//! ```
//!
//! What was published is on disk only when the image is recorded, which syncs once for all its layers.
//!
//! Both ways run on threads of their own and have short queues, so the network waits for the disk.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::downloads::{Progress, Source};
use super::is_transient;
use super::progress::LayerStep;
use crate::index::Layer;
use crate::records::{LAYERS, LayerRecord};
use crate::{ImageError, Shared};
use content::disk::{Disk, DiskError, Temporary};
use content::layer::{LayerError, Unpacked, unpack};
use model::reference::Digest;

/// Chunks that wait for the disk, each as large as one read from the network.
const QUEUE: usize = 8;
/// How often a broken connection is replaced without a byte having come.
const TRIES: u32 = 5;
/// Between two looks at the extraction.
const GLANCE: Duration = Duration::from_millis(100);

type Told<'a> = &'a watch::Sender<Progress>;

/// Brings one layer here: published, in the index, but not yet of an image.
pub(super) async fn run(shared: &Arc<Shared>, source: Source, told: Told<'_>) -> Result<(), ImageError> {
    let mut sinks = Sinks::start(&shared.disk)?;
    fetch(&source, &mut sinks, told).await?;
    let Finished { blob, unpacked, folder } = sinks.finish(&source, told).await?;
    let mut record = LayerRecord { blobs: Vec::new(), size: unpacked.size, opaque: unpacked.opaque };
    record.seen(&source.blob, &source.origin);
    let shared = shared.clone();
    // Runs to its end even when cancelled; what is published in vain is collected.
    tokio::task::spawn_blocking(move || shared.publish_download(source, record, blob, folder)).await?
}

impl Shared {
    fn publish_download(
        &self,
        source: Source,
        record: LayerRecord,
        blob: Temporary,
        folder: Temporary,
    ) -> Result<(), ImageError> {
        let is_named = self.store.read(|reader| reader.contains(LAYERS, &source.diff_id))?;
        if is_named {
            // The files that a record names were lost. The new ones get a name that is believed at once.
            self.disk.sync_everything()?;
        }
        let changing = self.change();
        self.disk.publish_blob(blob, &source.blob.digest)?;
        self.disk.publish_layer(folder, &source.diff_id)?;
        self.index_mut().layers.insert(source.diff_id.clone(), Layer { record, durable: false });
        drop(changing);
        if !self.downloads.is_pinned(&source.diff_id) {
            self.collect_or_log();
        }
        Ok(())
    }

    pub(super) fn collect_or_log(&self) {
        if let Err(error) = self.collect() {
            tracing::warn!("cannot remove what a pull left: {error}");
        }
    }
}

/// The two threads and their queues.
struct Sinks {
    blob: mpsc::Sender<Bytes>,
    layer: Option<mpsc::Sender<Bytes>>,
    blob_writer: JoinHandle<Result<(Digest, Temporary), ImageError>>,
    extractor: JoinHandle<Result<(Unpacked, Temporary), ImageError>>,
    /// Compressed bytes that the extractor has taken.
    extracted: Arc<AtomicU64>,
    abandon: Abandon,
}

/// Tells the extractor to stop when it is dropped; afterwards there is nothing left to stop.
#[derive(Default)]
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Finished {
    blob: Temporary,
    unpacked: Unpacked,
    folder: Temporary,
}

impl Sinks {
    fn start(disk: &Arc<Disk>) -> Result<Sinks, ImageError> {
        let (blob, blob_chunks) = mpsc::channel(QUEUE);
        let (layer, layer_chunks) = mpsc::channel(QUEUE);
        let (extracted, abandon) = (Arc::new(AtomicU64::new(0)), Abandon::default());
        let (for_blob, for_layer) = (disk.clone(), disk.clone());
        let chunks = Chunks {
            chunks: layer_chunks,
            present: Bytes::new(),
            extracted: extracted.clone(),
            abandoned: abandon.0.clone(),
        };
        Ok(Sinks {
            blob,
            layer: Some(layer),
            blob_writer: tokio::task::spawn_blocking(move || write_blob(&for_blob, blob_chunks)),
            extractor: tokio::task::spawn_blocking(move || extract(&for_layer, chunks)),
            extracted,
            abandon,
        })
    }

    /// Gives a chunk to both. An extractor that gave up because of the bytes gets no more, but the digest is
    /// still worth knowing: it tells a damaged download from a bad image. `false` when there is no use going on.
    async fn take(&mut self, chunk: Bytes) -> bool {
        if let Some(layer) = &self.layer
            && layer.send(chunk.clone()).await.is_err()
        {
            self.layer = None;
        }
        self.blob.send(chunk).await.is_ok()
    }

    /// Waits for both and compares what they found with what was promised.
    async fn finish(self, source: &Source, told: Told<'_>) -> Result<Finished, ImageError> {
        let Sinks { blob, layer, blob_writer, mut extractor, extracted, abandon: _abandon } = self;
        drop((blob, layer));
        let (digest, blob) = blob_writer.await??;
        if digest != source.blob.digest {
            return Err(ImageError::Verification(source.blob.digest.clone()));
        }
        let extraction = loop {
            let current = extracted.load(Ordering::Relaxed);
            going(told, LayerStep::Extracting { current, total: source.blob.size });
            if let Ok(done) = tokio::time::timeout(GLANCE, &mut extractor).await {
                break done;
            }
        };
        let (unpacked, folder) = extraction??;
        if unpacked.diff_id != source.diff_id {
            return Err(ImageError::DiffId(source.blob.digest.clone()));
        }
        Ok(Finished { blob, unpacked, folder })
    }
}

/// Counts tries that brought nothing.
#[derive(Default)]
pub(super) struct Tries {
    vain: u32,
}

impl Tries {
    /// How long to wait before the next try, or the error when there is none.
    fn next(&mut self, error: ImageError) -> Result<Duration, ImageError> {
        self.vain += 1;
        if self.vain > TRIES || !is_transient(&error) {
            return Err(error);
        }
        tracing::info!("pull: {error}; trying again");
        Ok(Duration::from_secs(1 << (self.vain - 1)))
    }

    /// Waits before the next try.
    pub(super) async fn again(&mut self, error: impl Into<ImageError>) -> Result<(), ImageError> {
        let pause = self.next(error.into())?;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn succeeded(&mut self) {
        self.vain = 0;
    }
}

/// Reads the layer to its end, on as many connections as it takes.
async fn fetch(source: &Source, sinks: &mut Sinks, told: Told<'_>) -> Result<(), ImageError> {
    let mut current = 0;
    let mut tries = Tries::default();
    loop {
        let before = current;
        let error = match fetch_from(source, &mut current, sinks, told).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if current > before {
            tries.succeeded();
        }
        let pause = tries.next(error)?;
        going(told, LayerStep::Retrying { seconds: pause.as_secs() });
        tokio::time::sleep(pause).await;
    }
}

/// One connection. `current` counts the bytes that were taken.
async fn fetch_from(
    source: &Source,
    current: &mut u64,
    sinks: &mut Sinks,
    told: Told<'_>,
) -> Result<(), ImageError> {
    let total = source.blob.size;
    if *current < total || total == 0 {
        let mut body = source.repository.blob(&source.blob.digest, *current).await?;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            *current += chunk.len() as u64;
            if *current > total {
                break;
            }
            if !sinks.take(chunk).await {
                // The blob's writer tells why when it is waited for.
                return Ok(());
            }
            going(told, LayerStep::Downloading { current: *current, total });
        }
    }
    if *current == total {
        Ok(())
    } else {
        Err(ImageError::Length { digest: source.blob.digest.clone(), got: *current, expected: total })
    }
}

fn going(told: Told<'_>, step: LayerStep) {
    told.send_replace(Progress::Going(step));
}

fn write_blob(
    disk: &Arc<Disk>,
    mut chunks: mpsc::Receiver<Bytes>,
) -> Result<(Digest, Temporary), ImageError> {
    let (mut file, temporary) = disk.new_file()?;
    let path = temporary.path();
    let mut hash = Sha256::new();
    while let Some(chunk) = chunks.blocking_recv() {
        hash.update(&chunk);
        file.write_all(&chunk).map_err(DiskError::new("write", &path))?;
    }
    Ok((Digest::from_sha256(&hash.finalize().into()), temporary))
}

fn extract(disk: &Arc<Disk>, chunks: Chunks) -> Result<(Unpacked, Temporary), ImageError> {
    let (folder, temporary) = disk.new_folder()?;
    let scratch = disk.scratch()?;
    match unpack(chunks, folder, scratch, disk.ids()) {
        Ok(unpacked) => Ok((unpacked, temporary)),
        Err(error) => Err(ImageError::Layer(Arc::<LayerError>::new(error))),
    }
}

/// The queue as a reader, without copying.
struct Chunks {
    chunks: mpsc::Receiver<Bytes>,
    present: Bytes,
    extracted: Arc<AtomicU64>,
    abandoned: Arc<AtomicBool>,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        while self.present.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.present = chunk,
                None => break,
            }
        }
        Ok(&self.present)
    }

    fn consume(&mut self, count: usize) {
        self.present.advance(count);
        self.extracted.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
