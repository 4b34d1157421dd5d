//! Reads the sources of a crate: its modules, the imports of each file, and the public types that it defines.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// Returns the folder of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of xtask has a parent")
}

/// The modules of a crate.
pub(crate) struct Crate {
    /// By the path below the crate's root; the root's is empty.
    modules: HashMap<Vec<String>, Module>,
}

struct Module {
    /// Relative to the folder of the sources.
    file: String,
    items: Vec<Item>,
    /// Names that it exports from elsewhere, with the paths there.
    exports: HashMap<String, Vec<String>>,
    children: BTreeSet<String>,
}

impl Crate {
    /// Reads the library whose `lib.rs` is in `folder`. Modules for tests and fuzzing alone are left out.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut this = Self { modules: HashMap::new() };
        this.read_file(folder, Path::new("lib.rs"), Vec::new());
        this
    }

    fn read_file(&mut self, folder: &Path, file: &Path, path: Vec<String>) {
        let text = fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        let children_folder = match file.file_name().and_then(|name| name.to_str()) {
            Some("lib.rs" | "mod.rs") => file.parent().expect("a folder").to_owned(),
            _ => file.with_extension(""),
        };
        let mut children = BTreeSet::new();
        for item in &parsed.items {
            let Item::Mod(ItemMod { ident, content: None, attrs, .. }) = item else { continue };
            if is_special(attrs) {
                continue;
            }
            let name = ident.to_string();
            let flat = children_folder.join(format!("{name}.rs"));
            let nested = children_folder.join(&name).join("mod.rs");
            let child = if folder.join(&flat).exists() { flat } else { nested };
            let mut child_path = path.clone();
            child_path.push(name.clone());
            children.insert(name);
            self.read_file(folder, &child, child_path);
        }
        let mut module = Module {
            file: file.to_string_lossy().into_owned(),
            items: parsed.items,
            exports: HashMap::new(),
            children,
        };
        for item in &module.items {
            let Item::Use(ItemUse { vis, tree, .. }) = item else { continue };
            if matches!(vis, Visibility::Inherited) {
                continue;
            }
            for (name, segments) in flatten(tree) {
                if let Some(target) = absolute(&segments, &path, &module.children) {
                    module.exports.insert(name, target);
                }
            }
        }
        self.modules.insert(path, module);
    }

    /// Returns the files that each file imports from.
    pub(crate) fn arrows(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut arrows = BTreeMap::new();
        for (path, module) in &self.modules {
            let mut paths = Paths::default();
            module.items.iter().for_each(|item| paths.visit_item(item));
            let targets = paths.found.iter().filter_map(|segments| {
                absolute(segments, path, &module.children).and_then(|target| self.file(&target))
            });
            let imports = targets.filter(|file| *file != module.file).map(str::to_owned).collect();
            arrows.insert(module.file.clone(), imports);
        }
        arrows
    }

    /// Returns the public types and traits, each with the file that defines it.
    pub(crate) fn public_types(&self) -> Vec<(String, String)> {
        let mut types = Vec::new();
        for module in self.modules.values() {
            for item in &module.items {
                let (ident, vis) = match item {
                    Item::Struct(item) => (&item.ident, &item.vis),
                    Item::Enum(item) => (&item.ident, &item.vis),
                    Item::Trait(item) => (&item.ident, &item.vis),
                    Item::Type(item) => (&item.ident, &item.vis),
                    _ => continue,
                };
                if matches!(vis, Visibility::Public(_)) {
                    types.push((ident.to_string(), module.file.clone()));
                }
            }
        }
        types.sort();
        types
    }

    /// Returns the file that defines the item at a path of this crate; through exports, to where it stands.
    fn file(&self, path: &[String]) -> Option<&str> {
        let length = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
        let module = &self.modules[&path[..length]];
        match path.get(length).and_then(|name| module.exports.get(name)) {
            Some(target) if target[..] != *path => {
                let mut target = target.clone();
                target.extend_from_slice(&path[length + 1..]);
                self.file(&target)
            }
            _ => Some(&module.file),
        }
    }
}

/// Whether an item is compiled for tests or fuzzing alone.
fn is_special(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| {
                let tokens = list.tokens.to_string();
                !tokens.contains("not") && (tokens.contains("test") || tokens.contains("fuzzing"))
            })
    })
}

/// The paths that stand in a file.
#[derive(Default)]
struct Paths {
    found: Vec<Vec<String>>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_special(attributes) {
            visit::visit_item(self, item);
        }
    }

    /// An export is no arrow: a module that re-exports an item does not depend on it.
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !matches!(item.vis, Visibility::Inherited) {
            return;
        }
        self.found.extend(flatten(&item.tree).into_iter().map(|(_, segments)| segments));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.found.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

/// Returns each import of a `use` tree: the name that it gives, and the path.
fn flatten(tree: &UseTree) -> Vec<(String, Vec<String>)> {
    match tree {
        UseTree::Path(path) => {
            let below = flatten(&path.tree).into_iter();
            let prefix = path.ident.to_string();
            below
                .map(|(name, mut segments)| {
                    segments.insert(0, prefix.clone());
                    (if name == "self" { prefix.clone() } else { name }, segments)
                })
                .collect()
        }
        UseTree::Name(name) if name.ident == "self" => vec![("self".into(), Vec::new())],
        UseTree::Name(name) => vec![(name.ident.to_string(), vec![name.ident.to_string()])],
        UseTree::Rename(rename) => vec![(rename.rename.to_string(), vec![rename.ident.to_string()])],
        UseTree::Glob(_) => vec![("*".into(), Vec::new())],
        UseTree::Group(group) => group.items.iter().flat_map(flatten).collect(),
    }
}

/// Returns the path below the crate's root; `None` for an item of another crate, or a name of the file itself.
fn absolute(segments: &[String], here: &[String], children: &BTreeSet<String>) -> Option<Vec<String>> {
    let (first, rest) = segments.split_first()?;
    let mut path = match first.as_str() {
        "crate" => Vec::new(),
        "self" => here.to_vec(),
        "super" => {
            let ups = segments.iter().take_while(|segment| *segment == "super").count();
            let mut path = here.get(..here.len().checked_sub(ups)?)?.to_vec();
            path.extend_from_slice(&segments[ups..]);
            return Some(path);
        }
        name if children.contains(name) => [here, &[name.to_owned()]].concat(),
        _ => return None,
    };
    path.extend_from_slice(rest);
    Some(path)
}
