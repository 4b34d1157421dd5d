// The page's copy of a document: the committed data, the commit under way, and the page's edits since.
//
// They are states one after the other, each with the changes of those before it:
//
//   base → commit under way → commits that wait → data
//
// A change by others moves the base, and the rest is rebased: each step merges the result of the one before it.
import { diff } from "./diff.js";
import { merge, trees } from "./merge.js";
import { conform, page } from "./page.js";
import { patched } from "./patch.js";
import { isSame, snapshot, toPlain, toTree, valueAt } from "./tree.js";
import { largest, Withheld } from "./withheld.js";

/** Why a commit was refused, or could not be made. Its edits are still in the data. */
export class StateError extends Error {
  name = "StateError";

  /**
   * @param {string} code
   * @param {string} message
   * @param {{ path: string, mine: unknown, theirs: unknown }[]} [conflicts]
   * @param {string[]} [paths] where the edits are that the server does not accept
   */
  constructor(code, message, conflicts = [], paths = []) {
    super(message);
    this.code = code;
    this.conflicts = conflicts;
    this.paths = paths;
  }
}

const conflictError = (conflicts) =>
  new StateError("conflict", `others have changed ${conflicts.map(({ path }) => path || "the document").join(", ")}`, conflicts);

/** These would be the answer again, whatever others do. */
const LASTING = new Set(["invalid", "too-large"]);

/** Enough that no two are ever the same: the server takes a commit with a known id for one that is sent again. */
const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (number) => number.toString(36)).join("");

export class Replica {
  /** The document of the server, by the id that distinguishes it from others of the same name. */
  document = null;
  version = -1;
  /** The data that the page reads and edits. */
  data = null;
  /** The server's data, as a tree. */
  #base = null;
  /** The commits that are not answered yet; the first may be under way. */
  #commits = [];
  /** Where the data has edits of the page's that others have changed since. */
  #conflicts = [];
  #withheld = new Withheld();

  /**
   * Applies a message of the server about the document.
   * @returns the delta that the base has moved by
   * @throws if it does not fit; then all is as it was
   */
  receive({ document = this.document, version, data, delta }) {
    if (typeof document !== "string" || !Number.isSafeInteger(version)) throw new TypeError("no name or no version");
    const before = this.#base;
    const base = data === undefined ? patched(before, delta) : toTree(data);
    if (document !== this.document) {
      // Another document by the same name: nothing that was sent to the old one has reached it.
      for (const commit of this.#commits) commit.message = null;
    }
    const isFirst = this.document === null;
    [this.document, this.version] = [document, version];
    if (isFirst) {
      [this.#base, this.data] = [base, toPlain(base)];
      return [];
    }
    this.#move(base);
    return data === undefined ? delta : toPlain(diff(before, base));
  }

  /**
   * Takes the data as it is now for a commit.
   * @returns {Promise<number>} the version that it makes
   */
  commit() {
    const after = snapshot(this.data);
    this.data = conform(this.data, after);
    const before = this.#commits.at(-1)?.after ?? this.#base;
    const rest = this.#withheld.without(after, before);
    const conflicts = this.#conflicts.filter(({ path }) => !isSame(valueAt(after, path), valueAt(this.#base, path)));
    this.#conflicts = [];
    if (conflicts.length > 0) throw conflictError(conflicts);
    return new Promise((resolve, reject) => {
      // With nothing else to commit, the page means the refused edits.
      this.#commits.push({ after: isSame(rest, before) ? after : rest, resolve, reject, conflicts: [], message: null });
    });
  }

  /** The message to send next, if there is one: commits are sent one after the other, each against the version it is for. */
  next() {
    for (let commit; (commit = this.#commits[0]) !== undefined;) {
      if (commit.message !== null) return null;
      if (commit.conflicts.length > 0) {
        this.refuse(conflictError(commit.conflicts));
        return null;
      }
      const delta = diff(this.#base, commit.after);
      if (delta.length > 0) {
        commit.message = { id: newId(), base: this.version, delta };
        return commit.message;
      }
      // Somebody else has made the same change.
      this.#commits.shift();
      commit.resolve(this.version);
    }
    return null;
  }

  /** The message that a lost connection leaves in doubt, to be sent again as it was. */
  get unanswered() {
    return this.#commits[0]?.message ?? null;
  }

  /**
   * Takes in the answer to a commit.
   * @returns the delta that the base has moved by
   */
  answer({ id, version, error, message, conflicts = [], path, retryAfter }) {
    const commit = this.#commits[0];
    if (commit?.message?.id !== id) return [];
    if (error !== undefined) {
      if (LASTING.has(error)) {
        this.withhold(error, message, path);
        return [];
      }
      const sides = conflicts.map(({ path, yours, theirs }) => ({ path, mine: yours, theirs }));
      const refusal = new StateError(error, message, commit.conflicts.length > 0 ? commit.conflicts : sides);
      this.refuse(Object.assign(refusal, { retryAfter }));
      return [];
    }
    if (!Number.isSafeInteger(version)) throw new TypeError("no version");
    this.#commits.shift();
    // A connection that began since may have reported it as a change by others.
    const delta = version > this.version ? commit.message.delta : [];
    const base = patched(this.#base, delta);
    this.version = Math.max(this.version, version);
    // Later edits were made on top of the commit as the page saw it.
    this.#base = commit.after;
    this.#move(base);
    commit.resolve(version);
    return delta;
  }

  /** Gives up all commits: the later ones were made on top of the first. Their edits stay in the data. */
  refuse(error) {
    for (const { reject } of this.#commits.splice(0)) reject(error);
  }

  /**
   * Gives up the commit that is under way for its size or its form: for the edit at `path`, or for the largest ones. The later commits
   * go on without them.
   */
  withhold(code, message, path) {
    const commit = this.#commits[0];
    const delta = commit?.message?.delta ?? [];
    const named = delta.filter((operation) => operation.path === path);
    const paths = this.#withheld.add(named.length > 0 ? named : largest(delta), this.#base, commit?.after);
    const error = new StateError(code, `${paths.map((place) => place || "the document").join(", ")}: ${message}`, [], paths);
    commit?.reject(error);
    let before = this.#base;
    this.#commits = this.#commits.slice(1).filter((later) => {
      later.after = this.#withheld.without(later.after, before);
      const isEmpty = isSame(later.after, before);
      if (isEmpty) later.reject(error);
      else before = later.after;
      return !isEmpty;
    });
  }

  /** Moves the base and rebases the edits on top of it. */
  #move(base) {
    let [before, after] = [this.#base, base];
    for (const commit of this.#commits) {
      const mine = commit.after;
      commit.after = merge(before, mine, after, trees, commit.conflicts);
      [before, after] = [mine, commit.after];
    }
    this.#base = base;
    try {
      this.data = merge(before, this.data, after, page, this.#conflicts);
    } catch (error) {
      // The page has put something there that throws when it is read. It could not be committed either.
      console.error("manysocket: the data of the page cannot be read, and was replaced by the document:", error);
      this.data = toPlain(after);
    }
  }
}
