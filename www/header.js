// The header of every page of the demo: its name, and the way to the other pages.
// A classic script that runs where it stands, so that nothing on the page moves when it arrives.
{
  const PAGES = [
    ["./", "Side by side"],
    ["loadtest.html", "Load test"],
    ["chat.html", "Chat"],
    ["spreadsheet.html", "Spreadsheet"],
    ["tank.html", "Calls"],
    ["stream.html", "Streams"],
    ["games/", "Game rooms"],
    ["devtools.html", "The wire"],
    ["walk.html", "Paths"],
  ];
  const script = document.currentScript;
  const anchor = (path, text) => {
    const made = document.createElement("a");
    made.href = new URL(path, script.src);
    made.textContent = text;
    const isFolder = path === "games/" && location.pathname.startsWith(made.pathname);
    if (isFolder || location.pathname.replace(/index\.html$/, "") === made.pathname) made.setAttribute("aria-current", "page");
    return made;
  };
  const header = document.createElement("header");
  header.className = "site";
  const nav = document.createElement("nav");
  nav.setAttribute("aria-label", "Pages of the demo");
  nav.append(...PAGES.map(([path, text]) => anchor(path, text)));
  const home = anchor("./", "manysocket");
  home.removeAttribute("aria-current");
  home.className = "home";
  header.append(home, nav);
  // A page in a frame belongs to the one around it.
  if (window === top) script.before(header);
  script.remove();
}
