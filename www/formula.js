// Computes the content of a cell: its text, its number, or the value of its formula.
//
//   formula = sum;  sum = product {("+" | "-") product};  product = unary {("*" | "/") unary};  unary = ["-"] value
//   value = number | A1 | SUM(A1:B2) | "(" sum ")"

const TOKEN = /\s*(?:(\d+(?:\.\d+)?)|(SUM)\b|([A-Z]\d+)|(.))/iy;

/** A formula that is no formula, or refers to itself. */
class Wrong extends Error {}

/**
 * @param {(reference: string) => string} textOf the text of a cell
 * @returns {(reference: string) => { text: string, kind: "text" | "number" | "wrong" }}
 */
export function evaluator(textOf) {
  const known = new Map();
  const underWay = new Set();

  function numberAt(reference) {
    if (!known.has(reference)) {
      if (underWay.has(reference)) throw new Wrong();
      underWay.add(reference);
      const text = textOf(reference);
      known.set(reference, text.startsWith("=") ? calculate(text.slice(1)) : Number(text));
      underWay.delete(reference);
    }
    // Text counts as nothing, as spreadsheets have it.
    return known.get(reference) || 0;
  }

  function calculate(formula) {
    const tokens = [];
    TOKEN.lastIndex = 0;
    for (let match; TOKEN.lastIndex < formula.trimEnd().length && (match = TOKEN.exec(formula));) {
      const [, number, sum, cell, sign] = match;
      tokens.push({ number, cell: cell?.toUpperCase(), sign: sum ? "SUM" : sign });
    }
    const peek = () => tokens[0]?.sign;
    const take = () => tokens.shift() ?? {};
    const expect = (sign) => {
      if (take().sign !== sign) throw new Wrong();
    };
    const cell = () => take().cell ?? fail();
    const fail = () => {
      throw new Wrong();
    };

    function sum() {
      let result = product();
      while (peek() === "+" || peek() === "-") result = take().sign === "+" ? result + product() : result - product();
      return result;
    }
    function product() {
      let result = unary();
      while (peek() === "*" || peek() === "/") result = take().sign === "*" ? result * unary() : result / unary();
      return result;
    }
    function unary() {
      const token = take();
      if (token.sign === "-") return -unary();
      if (token.number) return Number(token.number);
      if (token.cell) return numberAt(token.cell);
      if (token.sign === "(") {
        const result = sum();
        expect(")");
        return result;
      }
      if (token.sign !== "SUM") fail();
      expect("(");
      const [from] = [cell(), expect(":")];
      const to = cell();
      expect(")");
      return range(from, to).reduce((total, reference) => total + numberAt(reference), 0);
    }

    const result = sum();
    return tokens.length === 0 ? result : fail();
  }

  return (reference) => {
    const text = textOf(reference);
    if (!text.startsWith("=")) {
      return { text, kind: text.trim() !== "" && Number.isFinite(Number(text)) ? "number" : "text" };
    }
    try {
      const result = numberAt(reference);
      if (!Number.isFinite(result)) throw new Wrong();
      return { text: String(Math.round(result * 1e6) / 1e6), kind: "number" };
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      underWay.clear();
      return { text: "#!", kind: "wrong" };
    }
  };
}

function range(from, to) {
  const [left, right] = [from, to].map((reference) => reference.charCodeAt(0)).sort((a, b) => a - b);
  const [top, bottom] = [from, to].map((reference) => Number(reference.slice(1))).sort((a, b) => a - b);
  const cells = [];
  for (let column = left; column <= right; column++) {
    // A sheet has no more rows than that, whatever a formula says.
    for (let row = top; row <= Math.min(bottom, 999); row++) cells.push(String.fromCharCode(column) + row);
  }
  return cells;
}
