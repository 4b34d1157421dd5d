//! Finds routes that match the same paths, before axum's router panics because of them.

use std::error::Error;
use std::fmt::{self, Display, Formatter};

use matchit::InsertError;

/// Two routes of [`Site`](crate::Site)s match the same paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConflict {
    one: String,
    other: String,
    of_indexes: bool,
}

impl RouteConflict {
    pub(super) fn of_routes(one: &str, other: &str) -> Self {
        Self { one: one.to_owned(), other: other.to_owned(), of_indexes: false }
    }

    pub(super) fn of_indexes(path: &str) -> Self {
        Self { one: path.to_owned(), other: path.to_owned(), of_indexes: true }
    }

    /// Returns the paths of the two routes, as the application has written them.
    pub fn routes(&self) -> (&str, &str) {
        (&self.one, &self.other)
    }
}

impl Display for RouteConflict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { one, other, of_indexes } = self;
        if *of_indexes {
            write!(
                f,
                "both sites have layers around the index of {one}: merge the sites first, then add the layers"
            )
        } else if one == other {
            write!(f, "there are two routes for {one}")
        } else {
            write!(f, "the routes {one} and {other} match the same paths")
        }
    }
}

impl Error for RouteConflict {}

/// The paths of routes, as axum's router sees them.
#[derive(Debug, Clone, Default)]
pub(super) struct Paths(matchit::Router<()>);

impl Paths {
    /// Adds a path.
    ///
    /// # Errors
    /// Returns the path of another route that matches the same paths; it may be the same path.
    pub(super) fn insert(&mut self, path: &str) -> Result<(), String> {
        match self.0.insert(path, ()) {
            Err(InsertError::Conflict { with }) => Err(with),
            // A path of another form: the router reports its error.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
