// A table that is wider than the page can be reached, and then scrolled, with the keyboard.
addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("article table")) {
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
  }
});
