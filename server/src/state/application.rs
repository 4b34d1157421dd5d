//! Reads, commits to, watches and lists documents for the application that serves them.

use futures_util::Stream;
use serde::Serialize;
use tracing::error;

use super::Documents;
use super::handle::{self, DocumentError, DocumentVersion};

impl Documents {
    /// Returns the present version of a document; `None` if nobody has committed to it.
    ///
    /// ```
    /// use manysocket_server::state::{DocumentError, Documents};
    /// use serde_json::{Value, json};
    ///
    /// async fn rename(sheets: &Documents, sheet: &str, title: &str) -> Result<u64, DocumentError> {
    ///     let base = sheets.get(sheet).await?.map_or(0, |sheet| sheet.version());
    ///     let delta = json!([{ "op": "add", "path": "/title", "value": title }]);
    ///     sheets.commit(sheet, base, &delta).await
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns an error with the code `name` if no document can have the name, and `storage` if the store cannot read it.
    pub async fn get(&self, name: &str) -> Result<Option<DocumentVersion>, DocumentError> {
        let document = self.find(name, true, self.peer).await?;
        Ok(document.map(|document| DocumentVersion::of(&document)))
    }

    /// Commits a JSON Patch (RFC 6902) against the version `base`, as a page does: with the same rules, limits, hooks and
    /// conflicts. Returns the version that it makes, once the store has written it. A commit creates a document that does
    /// not exist; its base is 0.
    ///
    /// # Errors
    /// Returns an error with one of the codes that pages get, or with `missing` if these documents create none. The commit
    /// has then not been applied. After `storage` that may not be known.
    pub async fn commit(&self, name: &str, base: u64, delta: &impl Serialize) -> Result<u64, DocumentError> {
        if !self.may_write {
            return Err(DocumentError::new("read-only", "these documents may only be read"));
        }
        let delta = serde_json::to_string(delta);
        let delta = delta.map_err(|error| DocumentError::new("invalid", error.to_string()))?;
        if delta.len() > self.max_commit {
            let message = format!("the commit has {} bytes, and may have {}", delta.len(), self.max_commit);
            return Err(DocumentError::new("too-large", message));
        }
        let document = self.find(name, !self.may_create, self.peer).await?.ok_or_else(missing)?;
        handle::commit(&self.store, document, self.rules.clone(), self.peer, base, delta).await
    }

    /// Deletes a document with its commits, in all processes that share it. Returns once the store has written that. Its sockets
    /// are closed with 1012 and streams of its versions end. A later open of the name finds a new document with another
    /// [id](DocumentVersion::id), so nothing that a page remembers of the deleted one applies to it. Commits that were on their
    /// way are refused, or are part of the deleted document.
    ///
    /// ```
    /// use manysocket_server::state::{DocumentError, Documents};
    ///
    /// async fn forget(sheets: &Documents, sheet: &str) -> Result<(), DocumentError> {
    ///     match sheets.delete(sheet).await {
    ///         Err(error) if error.code() == "missing" => Ok(()),
    ///         deleted => deleted,
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns an error with the code `missing` if nobody has committed to the document, `read-only` for
    /// [`read_only`](Self::read_only) documents, `name` if no document can have the name, and `storage` if the store cannot
    /// delete it. After `storage` it may be deleted all the same.
    pub async fn delete(&self, name: &str) -> Result<(), DocumentError> {
        if !self.may_write {
            return Err(DocumentError::new("read-only", "these documents may only be read"));
        }
        let key = self.key(name)?;
        let deleted = self.store.delete(key.clone(), self.peer).await;
        match deleted {
            Ok(true) => Ok(()),
            Ok(false) => Err(missing()),
            Err(error) => {
                error!(%error, key, "a document cannot be deleted");
                Err(DocumentError::new("storage", format!("the server cannot delete it: {error}")))
            }
        }
    }

    /// Returns a stream of a document's versions: the present one, which may have no commits, and then each later one. A
    /// stream that is polled slowly leaves versions out, and gets the newest. It ends when the document is replaced.
    ///
    /// ```
    /// use futures_util::StreamExt;
    /// use manysocket_server::state::{DocumentError, Documents};
    /// use serde_json::Value;
    ///
    /// async fn print(sheets: &Documents) -> Result<(), DocumentError> {
    ///     let mut versions = std::pin::pin!(sheets.watch("budget").await?);
    ///     while let Some(sheet) = versions.next().await {
    ///         println!("{}: {:?}", sheet.version(), sheet.data::<Value>());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns an error as [`get`](Self::get) does, and with `missing` if the document does not exist and these documents
    /// create none.
    pub async fn watch(
        &self,
        name: &str,
    ) -> Result<impl Stream<Item = DocumentVersion> + Send + use<>, DocumentError> {
        let document = self.find(name, self.must_exist(), self.peer).await?.ok_or_else(missing)?;
        Ok(handle::versions(document))
    }

    /// Returns the names of up to `count` documents that have commits, in the order of their bytes, after the name `after`:
    /// the empty one at first, and then the last name of the page before.
    ///
    /// ```
    /// use manysocket_server::state::{DocumentError, Documents};
    ///
    /// async fn all(sheets: &Documents) -> Result<Vec<String>, DocumentError> {
    ///     let mut names = Vec::new();
    ///     loop {
    ///         let page = sheets.list(names.last().map_or("", String::as_str), 100).await?;
    ///         if page.is_empty() {
    ///             return Ok(names);
    ///         }
    ///         names.extend(page);
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns an error with the code `storage` if the store cannot read the names.
    pub async fn list(&self, after: &str, count: usize) -> Result<Vec<String>, DocumentError> {
        let names = self.store.names(format!("{}/", self.collection), after, count, self.peer).await;
        names.map_err(|error| {
            error!(%error, collection = self.collection, "cannot read the names of the documents");
            DocumentError::new("storage", "the names cannot be read; the server's log says why")
        })
    }
}

fn missing() -> DocumentError {
    DocumentError::new("missing", "there is no such document")
}
