//! The tree of an application's paths, and the entries of each interior path.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::site::listing::Listing;

/// The characters to percent-encode: all except those that `encodeURIComponent` leaves as they are, so that names look
/// as pages write them.
pub(crate) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// A node of the tree: a path and its children.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    /// True if there is a route for the path without a trailing slash.
    leaf: bool,
    /// True if there is a route for the path with a trailing slash.
    slash: bool,
    children: BTreeMap<String, Node>,
    /// The child whose segment is a parameter, and the parameter as the route writes it.
    parameter: Option<Box<(String, Node)>>,
    /// The current values of the parameter.
    names: Option<Listing>,
}

impl Node {
    /// Adds a route.
    pub(crate) fn insert(&mut self, path: &str) {
        if !is_listed(path) {
            return;
        }
        let node = self.descend(path);
        *(if path.ends_with('/') { &mut node.slash } else { &mut node.leaf }) = true;
    }

    /// Adds all routes of another tree below a path.
    pub(crate) fn graft(&mut self, prefix: &str, tree: Self) {
        self.descend(prefix).absorb(tree);
    }

    /// Sets the listing of the parameter that a path ends in.
    ///
    /// # Panics
    /// Panics if the path does not end in a parameter.
    pub(crate) fn list(&mut self, path: &str, names: Listing) {
        let (parent, last) = path.trim_end_matches('/').rsplit_once('/').unwrap_or_default();
        assert!(
            is_parameter(last),
            "a listing tells the values of a path's last parameter, but {path:?} does not end in one"
        );
        self.insert(path);
        self.descend(parent).names = Some(names);
    }

    /// Returns the paths without a route that list their children, with a trailing slash and without.
    pub(crate) fn interior(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    /// Returns the entries of the index at a path.
    pub(crate) fn entries(&self, path: &str) -> Entries {
        let mut node = self;
        for segment in segments(path) {
            let child = match &node.parameter {
                Some(parameter) if parameter.0 == segment => Some(&parameter.1),
                _ => node.children.get(segment),
            };
            match child {
                Some(child) => node = child,
                None => return Entries::default(),
            }
        }
        let mut fixed: Vec<String> =
            node.children.iter().flat_map(|(name, child)| child.forms().of(&relative(name))).collect();
        fixed.sort();
        let names = match (&node.parameter, &node.names) {
            (Some(parameter), Some(names)) => Some((names.clone(), parameter.1.forms())),
            _ => None,
        };
        Entries { fixed, names }
    }

    fn descend(&mut self, path: &str) -> &mut Self {
        segments(path).fold(self, |node, segment| {
            if is_parameter(segment) {
                &mut node.parameter.get_or_insert_with(|| Box::new((segment.into(), Self::default()))).1
            } else {
                node.children.entry(segment.into()).or_default()
            }
        })
    }

    fn absorb(&mut self, other: Self) {
        self.leaf |= other.leaf;
        self.slash |= other.slash;
        for (name, child) in other.children {
            self.children.entry(name).or_default().absorb(child);
        }
        if let Some(parameter) = other.parameter {
            let (segment, child) = *parameter;
            self.parameter.get_or_insert_with(|| Box::new((segment, Self::default()))).1.absorb(child);
        }
        self.names = other.names.or(self.names.take());
    }

    fn collect(&self, path: &str, paths: &mut Vec<String>) {
        let parameter = self.parameter.iter().map(|parameter| (&parameter.0, &parameter.1));
        for (name, child) in self.children.iter().chain(parameter) {
            child.collect(&format!("{path}/{name}"), paths);
        }
        if self.is_interior() {
            if !self.slash {
                paths.push(format!("{path}/"));
            }
            if !self.leaf {
                paths.push(path.to_owned());
            }
        }
    }

    fn is_interior(&self) -> bool {
        !self.children.is_empty() || self.parameter.is_some()
    }

    fn forms(&self) -> Forms {
        Forms { leaf: self.leaf, interior: self.slash || self.is_interior() }
    }
}

/// States whether a path has a route, and whether the path with a trailing slash has a route or an index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forms {
    leaf: bool,
    interior: bool,
}

impl Forms {
    fn of(self, name: &str) -> impl Iterator<Item = String> + use<> {
        let (leaf, interior) =
            (self.leaf.then(|| name.to_owned()), self.interior.then(|| format!("{name}/")));
        leaf.into_iter().chain(interior)
    }

    /// Returns the entries for a value of a parameter.
    pub(crate) fn encoded(self, name: &str) -> impl Iterator<Item = String> + use<> {
        self.of(&utf8_percent_encode(name, SEGMENT).to_string())
    }
}

/// The entries of an interior path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries {
    /// The entries from routes, sorted.
    pub(crate) fixed: Vec<String>,
    /// The names added at run time, and the entries of each.
    pub(crate) names: Option<(Listing, Forms)>,
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Returns whether indexes list a route. A wildcard has no names to list, and no relative URL leads to an empty
/// segment.
fn is_listed(path: &str) -> bool {
    !path.contains("{*") && !path.contains("//")
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}') && !segment.starts_with("{{")
}

/// Returns a relative reference to a segment: without `./`, URL parsers read the text before a colon as a scheme (RFC
/// 3986 §4.2).
fn relative(segment: &str) -> String {
    if segment.contains(':') { format!("./{segment}") } else { segment.to_owned() }
}
