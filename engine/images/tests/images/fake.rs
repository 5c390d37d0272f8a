//! A registry that does as a test says, however wrong.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::kit::{MANIFEST, Made};

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// What to answer.
pub enum Answer {
    /// Status, headers, body.
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The length of the body, and what comes of it before the connection ends.
    Cut(usize, Vec<u8>),
    /// The body, ever so slowly.
    Slow(Vec<u8>, Duration),
}

pub struct Fake {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || {
                    if let Some(asked) = read(&stream) {
                        log.lock().unwrap().push(asked.clone());
                        // The client may have gone; that is its right.
                        let _ = write(stream, answer(&asked));
                    }
                });
            }
        });
        Fake { address, asked }
    }

    /// Serves an image as `x:latest`, except where `twist` has another answer.
    pub fn serving(made: &Made, twist: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Fake {
        let (manifest, blobs) = (made.manifest.clone(), made.blobs());
        Fake::start(move |asked| {
            if let Some(answer) = twist(asked) {
                return answer;
            }
            let last = asked.path.rsplit('/').next().unwrap();
            match blobs.get(last) {
                Some(bytes) => whole("application/octet-stream", bytes),
                None if asked.path.contains("/manifests/") => whole(MANIFEST, &manifest),
                None => Answer::Whole(404, Vec::new(), Vec::new()),
            }
        })
    }

    pub fn name(&self) -> String {
        format!("{}/x:latest", self.address)
    }

    /// Everything asked whose path ends so.
    pub fn asked(&self, end: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path.ends_with(end)).cloned().collect()
    }
}

pub fn whole(media_type: &str, bytes: &[u8]) -> Answer {
    Answer::Whole(200, vec![("Content-Type", media_type.to_owned())], bytes.to_vec())
}

/// `None` for a TLS greeting, which this server does not understand.
fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    if reader.fill_buf().ok()?.first() == Some(&0x16) {
        return None;
    }
    let mut lines = reader.lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    Some(Asked { path, headers })
}

fn write(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    let (status, headers, length) = match &answer {
        Answer::Whole(status, headers, body) => (*status, headers.clone(), body.len()),
        Answer::Cut(length, _) => (200, Vec::new(), *length),
        Answer::Slow(body, _) => (200, Vec::new(), body.len()),
    };
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n");
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    match answer {
        Answer::Whole(_, _, body) | Answer::Cut(_, body) => stream.write_all(&body),
        Answer::Slow(body, pause) => body.chunks(4096).try_for_each(|chunk| {
            std::thread::sleep(pause);
            stream.write_all(chunk)
        }),
    }
}
