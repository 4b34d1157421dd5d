//! Serves the files of a folder, but no hidden files and none outside the folder.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower::ServiceExt;
use tower_http::services::ServeDir;
use tower_http::services::fs::{Backend, File};

/// The one hidden folder that is served: other software, such as certificate authorities, looks for files there (RFC
/// 8615).
const WELL_KNOWN: &str = ".well-known";

/// The characters to percent-encode in a path: more than necessary, which does no harm.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// The files of a folder.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    folder: Folder,
    /// The path of the page for requests that match no file.
    fallback: Option<Arc<str>>,
}

impl Files {
    /// Serves a folder. If `fallback` is set, that file answers requests for missing pages.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be read, or has no such file.
    pub(crate) fn open(folder: &Path, fallback: Option<&str>) -> io::Result<Self> {
        let folder = Folder(folder.into());
        if let Some(file) = fallback {
            let found = folder.open_inside(Path::new(file));
            found.map_err(|_| {
                let folder = folder.0.display();
                io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("there is no file {file} to serve in {folder}"),
                )
            })?;
        }
        let fallback = fallback.map(|file| file.trim_start_matches('/').into());
        Ok(Self { folder, fallback })
    }

    /// Answers with the file that a request names. If it does not exist and a browser wants a page, answers with the
    /// fallback.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let (parts, _) = request.into_parts();
        // A redirect to a path of `//` would lead to another host.
        let is_path = !parts.uri.path().starts_with("//");
        let is_page = matches!(parts.method, Method::GET | Method::HEAD) && wants_page(&parts.headers);
        let fallback = self.fallback.as_deref().filter(|_| is_page);
        let again = fallback.map(|file| (file, parts.clone()));
        let response = match is_path {
            true => self.serve(Request::from_parts(parts, Body::empty())).await,
            false => StatusCode::NOT_FOUND.into_response(),
        };
        match again {
            Some((file, parts)) if response.status() == StatusCode::NOT_FOUND => {
                self.answer_with(file, Request::from_parts(parts, Body::empty())).await
            }
            _ => response,
        }
    }

    /// Answers with one file, whatever path the request has.
    pub(crate) async fn answer_with(&self, file: &str, mut request: Request) -> Response {
        let path = format!("/{}", utf8_percent_encode(file, IN_PATH));
        *request.uri_mut() = path.parse::<Uri>().unwrap_or_default();
        self.serve(request).await
    }

    async fn serve(&self, request: Request) -> Response {
        let Ok(response) = ServeDir::with_backend("", self.folder.clone()).oneshot(request).await;
        let mut response = response.into_response();
        // Developers edit files in place, and a cached module beside a new one breaks the page.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// Returns whether a browser navigates to a page: it accepts HTML then, but not for scripts, images and the like.
fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(',')).filter_map(|range| range.split(';').next());
    kinds.any(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
}

/// The served folder. It follows symbolic links that stay within it.
#[derive(Debug, Clone)]
struct Folder(Arc<Path>);

impl Folder {
    /// Returns the canonical location of a path below the folder, without symbolic links.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        // Resolve the folder each time: it may be a symbolic link that a deployment replaces.
        let root = std::fs::canonicalize(&self.0)?;
        let place = std::fs::canonicalize(root.join(path))?;
        let is_served = is_visible(path) && place.strip_prefix(&root).is_ok_and(is_visible);
        if is_served { Ok(place) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn open_inside(&self, path: &Path) -> io::Result<std::fs::File> {
        let place = self.resolve(path)?;
        // Opening other kinds of files may block, as a pipe does until it has a writer.
        if !std::fs::metadata(&place)?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = std::fs::File::open(&place)?;
        // A folder on the path may have become a symbolic link since.
        if self.resolve(path)? == place { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn look_at(&self, path: &Path) -> io::Result<std::fs::Metadata> {
        std::fs::metadata(self.resolve(path)?)
    }
}

/// Returns whether no name in a path begins with a dot, or the path is below [`WELL_KNOWN`].
fn is_visible(path: &Path) -> bool {
    let mut names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_encoded_bytes()),
        _ => None,
    });
    match names.next() {
        Some(first) if first == WELL_KNOWN.as_bytes() => true,
        Some(first) => !first.starts_with(b".") && !names.any(|name| name.starts_with(b".")),
        None => true,
    }
}

type Ready<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Runs disk access on a blocking thread. Every error becomes "not found".
fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Ready<T> {
    Box::pin(async {
        let done = tokio::task::spawn_blocking(work).await;
        done.ok().and_then(Result::ok).ok_or_else(|| io::ErrorKind::NotFound.into())
    })
}

impl Backend for Folder {
    type File = Opened;
    type Metadata = std::fs::Metadata;
    type OpenFuture = Ready<Opened>;
    type MetadataFuture = Ready<std::fs::Metadata>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let folder = self.clone();
        blocking(move || folder.open_inside(&path).map(|file| Opened(file.into())))
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let folder = self.clone();
        blocking(move || folder.look_at(&path))
    }
}

/// An open file inside the folder.
#[derive(Debug)]
struct Opened(tokio::fs::File);

impl File for Opened {
    type Metadata = std::fs::Metadata;
    type MetadataFuture<'a> = Pin<Box<dyn Future<Output = io::Result<std::fs::Metadata>> + Send + 'a>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(self.0.metadata())
    }
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncSeek for Opened {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.0).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.0).poll_complete(cx)
    }
}
