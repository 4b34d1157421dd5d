//! Writes the types of a site's functions as a TypeScript module.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;

use percent_encoding::percent_decode_str;

/// The name of the interface with the functions.
const FUNCTIONS: &str = "Functions";

/// Words that TypeScript accepts as the name of a member, but not of a parameter.
const RESERVED: [&str; 46] = [
    "arguments",
    "await",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "enum",
    "eval",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "function",
    "if",
    "implements",
    "import",
    "in",
    "instanceof",
    "interface",
    "let",
    "new",
    "null",
    "package",
    "private",
    "protected",
    "public",
    "return",
    "static",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "var",
    "void",
    "while",
];

/// The types of a function's arguments and result in TypeScript.
#[derive(Debug, Clone, Default)]
pub struct Signature(Option<Types>);

#[derive(Debug, Clone)]
struct Types {
    names: Vec<String>,
    arguments: Vec<String>,
    result: String,
    declarations: BTreeSet<(String, String)>,
}

/// Two types with one name in TypeScript.
///
/// Rename one of them there: `#[ts(rename = "…")]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeConflict {
    name: String,
}

/// The functions of a site, by path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Functions {
    function: Option<Signature>,
    members: BTreeMap<String, Functions>,
}

impl Signature {
    /// Creates the signature of a function with these types, and the declarations of the named ones among them.
    pub(crate) fn new(
        arguments: Vec<String>,
        result: String,
        declarations: BTreeSet<(String, String)>,
    ) -> Self {
        Self(Some(Types { names: Vec::new(), arguments, result, declarations }))
    }

    /// Names the arguments.
    pub(crate) fn named(mut self, names: &[String]) -> Self {
        if let Some(types) = &mut self.0 {
            types.names = names.to_vec();
        }
        self
    }

    /// Returns `(left: number, right: number): number`.
    fn text(&self) -> String {
        let Some(types) = &self.0 else {
            return "(...args: any[]): any".into();
        };
        let mut used = Vec::new();
        let arguments = types.arguments.iter().enumerate().map(|(position, argument)| {
            let name = types.names.get(position).filter(|name| is_identifier(name) && !used.contains(name));
            used.extend(name);
            match name.filter(|name| !RESERVED.contains(&name.as_str())) {
                Some(name) => format!("{name}: {argument}"),
                None => format!("argument{}: {argument}", position + 1),
            }
        });
        let arguments = arguments.collect::<Vec<_>>().join(", ");
        format!("({arguments}): {}", types.result)
    }
}

impl Functions {
    /// Adds the function at a path.
    pub(crate) fn insert(&mut self, path: &str, function: Signature) {
        if is_member(path) {
            self.descend(path).function = Some(function);
        }
    }

    /// Adds all functions of another site below a path.
    pub(crate) fn graft(&mut self, prefix: &str, other: Self) {
        if is_member(prefix) {
            self.descend(prefix).absorb(other);
        }
    }

    /// Returns the module.
    pub(crate) fn module(&self) -> Result<String, TypeConflict> {
        let mut declarations = BTreeMap::new();
        self.declare(&mut declarations)?;
        let mut module = String::from(
            "// The functions of the server. manysocket-server has written this file: changes get lost.\n",
        );
        module += &format!("\nexport interface {FUNCTIONS} {{\n{}}}\n", self.body(1));
        for declaration in declarations.values() {
            module += &format!("\n{declaration}\n");
        }
        Ok(module)
    }

    fn descend(&mut self, path: &str) -> &mut Self {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        segments.fold(self, |functions, segment| functions.members.entry(member(segment)).or_default())
    }

    fn absorb(&mut self, other: Self) {
        self.function = other.function.or(self.function.take());
        for (name, functions) in other.members {
            self.members.entry(name).or_default().absorb(functions);
        }
    }

    fn declare<'a>(&'a self, declarations: &mut BTreeMap<&'a str, &'a str>) -> Result<(), TypeConflict> {
        let types = self.function.iter().filter_map(|function| function.0.as_ref());
        for (name, text) in types.flat_map(|types| &types.declarations) {
            let is_other = declarations.insert(name, text).is_some_and(|earlier| earlier != text);
            if is_other || name == FUNCTIONS {
                return Err(TypeConflict { name: name.clone() });
            }
        }
        self.members.values().try_for_each(|functions| functions.declare(declarations))
    }

    /// Returns the lines between the braces.
    fn body(&self, depth: usize) -> String {
        let indent = "  ".repeat(depth);
        let mut lines = String::new();
        if let Some(function) = &self.function {
            lines += &format!("{indent}{};\n", function.text());
        }
        for (name, functions) in &self.members {
            let name = if is_identifier(name) { name.clone() } else { quote(name) };
            lines += &match &functions.function {
                Some(function) if functions.members.is_empty() => {
                    format!("{indent}{name}{};\n", function.text())
                }
                _ => format!("{indent}{name}: {{\n{}{indent}}};\n", functions.body(depth + 1)),
            };
        }
        lines
    }
}

impl TypeConflict {
    /// Returns the name that both types have.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for TypeConflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        write!(
            formatter,
            "two types are named {name} in TypeScript: rename one of them with #[ts(rename = \"…\")]"
        )
    }
}

impl Error for TypeConflict {}

/// Returns whether an object in the page has a member for a path.
fn is_member(path: &str) -> bool {
    !path.contains("{*") && !path.contains("//") && (path.len() <= 1 || !path.ends_with('/'))
}

/// Returns the name of a segment's member: the page encodes it. Braces of a route are doubled unless they make a parameter.
fn member(segment: &str) -> String {
    let name = percent_decode_str(segment).decode_utf8_lossy();
    name.replace("{{", "{").replace("}}", "}")
}

fn is_identifier(name: &str) -> bool {
    let mut characters = name.chars();
    let is_first = |first: char| first.is_ascii_alphabetic() || first == '_' || first == '$';
    characters.next().is_some_and(is_first) && characters.all(|next| is_first(next) || next.is_ascii_digit())
}

fn quote(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(names: &[&str]) -> Signature {
        let arguments = names.iter().map(|_| "number".to_owned()).collect();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        Signature::new(arguments, "null".into(), BTreeSet::new()).named(&names)
    }

    #[test]
    fn parameters_have_names_that_typescript_accepts() {
        for (names, expected) in [
            (&["left", "right"][..], "(left: number, right: number): null"),
            (
                &["in", "user-id", "", "1st"],
                "(argument1: number, argument2: number, argument3: number, argument4: number): null",
            ),
            (&["a", "a", "$b_2"], "(a: number, argument2: number, $b_2: number): null"),
            (&[], "(): null"),
        ] {
            assert_eq!(function(names).text(), expected);
        }
        let unnamed = Signature::new(vec!["string".into()], "null".into(), BTreeSet::new());
        assert_eq!(unnamed.text(), "(argument1: string): null");
        assert_eq!(Signature::default().named(&["left".into()]).text(), "(...args: any[]): any");
    }

    #[test]
    fn members_have_the_names_that_the_page_uses() {
        let mut functions = Functions::default();
        for path in ["/a%20b", "/{user}/rename", "/{{x}}", "/x", "/x/y", "/quo\"te"] {
            functions.insert(path, function(&[]));
        }
        for path in ["/files/{*rest}", "/a//b", "/folder/"] {
            functions.insert(path, function(&[]));
        }
        let expected = "  \"a b\"(): null;\n  \"quo\\\"te\"(): null;\n  x: {\n    (): null;\n    y(): null;\n  };\n  \
                        \"{user}\": {\n    rename(): null;\n  };\n  \"{x}\"(): null;\n";
        assert_eq!(functions.body(1), expected);
    }
}
