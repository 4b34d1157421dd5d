//! Reads a WebAssembly module, as far as the build rewrites it: its sections, the names of its imports, and its instructions.

use anyhow::{Context, Result, bail, ensure};

/// The magic number and the version of a module.
pub(crate) const PREAMBLE: usize = 8;

/// Numbers of sections (WebAssembly 2.0 §5.5.2).
pub(crate) mod section {
    pub(crate) const IMPORT: u8 = 2;
    pub(crate) const CODE: u8 = 10;
}

/// What is left to read of a module, or of a part of one.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).context("the wasm is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// Returns the bytes of an integer in LEB128, signed or not.
    pub(crate) fn integer(&mut self) -> Result<&'a [u8]> {
        let last = self.0.iter().position(|byte| byte & 0x80 == 0).context("an integer is cut short")?;
        self.take(last + 1)
    }

    pub(crate) fn number(&mut self) -> Result<usize> {
        let bytes = self.integer()?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f)))
    }

    fn name(&mut self) -> Result<&'a str> {
        let length = self.number()?;
        Ok(str::from_utf8(self.take(length)?)?)
    }
}

/// Appends a number in LEB128.
pub(crate) fn write_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Returns the sections of a module: their numbers and contents.
pub(crate) fn sections(module: &[u8]) -> Result<Vec<(u8, &[u8])>> {
    let mut reader = Reader(module);
    reader.take(PREAMBLE)?;
    let mut sections = Vec::new();
    while !reader.0.is_empty() {
        let number = reader.byte()?;
        let length = reader.number()?;
        sections.push((number, reader.take(length)?));
    }
    Ok(sections)
}

/// A part of an instruction.
pub(crate) enum Part<'a> {
    Opcode(u8),
    /// The index of a local variable.
    Local(usize),
    /// The offset of a load or store.
    Offset(&'a [u8]),
    /// The type of a block, the label of a branch, or the index of a global variable.
    Place(&'a [u8]),
    /// A constant, or another index.
    Other(&'a [u8]),
}

/// Reads the instructions of a function.
pub(crate) fn instructions<'a>(mut reader: Reader<'a>, mut visit: impl FnMut(Part<'a>)) -> Result<()> {
    while !reader.0.is_empty() {
        let opcode = reader.byte()?;
        visit(Part::Opcode(opcode));
        match opcode {
            // Without immediates: plain control, parametric, comparisons and arithmetic, null checks.
            0x00 | 0x01 | 0x05 | 0x0b | 0x0f | 0x1a | 0x1b | 0x45..=0xc4 | 0xd1 => {}
            0x02..=0x04 | 0x0c | 0x0d | 0x23 | 0x24 => visit(Part::Place(reader.integer()?)),
            // A table of branches.
            0x0e => {
                let mut labels = Reader(reader.0).number()? + 2;
                while labels > 0 {
                    visit(Part::Place(reader.integer()?));
                    labels -= 1;
                }
            }
            0x20..=0x22 => visit(Part::Local(reader.number()?)),
            0x28..=0x3e => {
                reader.integer()?;
                visit(Part::Offset(reader.integer()?));
            }
            0x10 | 0x25 | 0x26 | 0x3f..=0x42 | 0xd0 | 0xd2 => visit(Part::Other(reader.integer()?)),
            0x11 | 0x1c => {
                visit(Part::Other(reader.integer()?));
                visit(Part::Other(reader.integer()?));
            }
            // An `f64`.
            0x44 => visit(Part::Other(reader.take(8)?)),
            // Saturating conversions, memory and tables.
            0xfc => {
                let operation = Reader(reader.0).number()?;
                for _ in 0..=indexes_of(operation) {
                    visit(Part::Other(reader.integer()?));
                }
            }
            _ => bail!("js/inline.js does not know the opcode {opcode:#x}"),
        }
    }
    Ok(())
}

/// Returns how many indexes follow the number of an operation with the prefix 0xfc.
fn indexes_of(operation: usize) -> usize {
    match operation {
        0..=7 => 0,
        8 | 10 | 12 | 14 => 2,
        _ => 1,
    }
}

/// The natural alignment of loads and stores, from `i32.load` on, as exponents of two.
const ALIGNMENTS: &[u8; 23] = b"23230011001122222301012";

/// Calls `visit` for each function of a code section, with its local declarations and its instructions.
pub(crate) fn functions<'a>(
    content: &'a [u8],
    mut visit: impl FnMut(&'a [u8], Reader<'a>) -> Result<()>,
) -> Result<usize> {
    let mut reader = Reader(content);
    let count = reader.number()?;
    for _ in 0..count {
        let length = reader.number()?;
        let body = reader.take(length)?;
        let mut rest = Reader(body);
        for _ in 0..rest.number()? {
            rest.integer()?;
            rest.byte()?;
        }
        visit(&body[..body.len() - rest.0.len()], rest)?;
    }
    Ok(count)
}

/// A function that the module imports.
pub(crate) struct Import {
    pub(crate) module: String,
    pub(crate) name: String,
}

/// Gives the imports numbers for names, all in the module "", and loads and stores their natural alignment. Both compress better, and
/// engines do without the hint of an alignment. Returns the imports in the order of their numbers.
pub(crate) fn shrink(module: &[u8]) -> Result<(Vec<u8>, Vec<Import>)> {
    let mut out = module.get(..PREAMBLE).context("the wasm is cut short")?.to_vec();
    let mut imports = Vec::new();
    for (number, content) in sections(module)? {
        let mut rewritten = Vec::new();
        let content = match number {
            section::IMPORT => {
                imports = shrink_imports(content, &mut rewritten)?;
                &rewritten
            }
            section::CODE => {
                shrink_code(content, &mut rewritten)?;
                &rewritten
            }
            _ => content,
        };
        out.push(number);
        write_number(&mut out, content.len());
        out.extend_from_slice(content);
    }
    Ok((out, imports))
}

fn shrink_imports(content: &[u8], out: &mut Vec<u8>) -> Result<Vec<Import>> {
    let mut reader = Reader(content);
    let count = reader.number()?;
    write_number(out, count);
    let mut imports = Vec::new();
    for number in 0..count {
        let (module, name) = (reader.name()?.into(), reader.name()?.into());
        imports.push(Import { module, name });
        ensure!(reader.byte()? == 0, "the wasm imports something else than a function");
        let name = number.to_string();
        out.push(0);
        write_number(out, name.len());
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.extend_from_slice(reader.integer()?);
    }
    Ok(imports)
}

fn shrink_code(content: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut bodies = Vec::new();
    let count = functions(content, |declarations, code| {
        let mut body = declarations.to_vec();
        instructions(code, |part| match part {
            Part::Opcode(opcode) => {
                body.push(opcode);
                let alignment = ALIGNMENTS.get(usize::from(opcode).wrapping_sub(0x28));
                body.extend(alignment.map(|digit| digit - b'0'));
            }
            Part::Local(local) => write_number(&mut body, local),
            Part::Offset(bytes) | Part::Place(bytes) | Part::Other(bytes) => body.extend_from_slice(bytes),
        })?;
        write_number(&mut bodies, body.len());
        bodies.extend(body);
        Ok(())
    })?;
    write_number(out, count);
    out.extend(bodies);
    Ok(())
}
