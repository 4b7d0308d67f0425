/**
 * Light or dark: what the system prefers, until the button chooses. Not a module, so that it runs before the first paint.
 */
(() => {
  const KEY = "studio-theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // a browser that keeps nothing for this page
    }
  };
  const shown = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const changed = () => dispatchEvent(new Event("themechange"));

  const chosen = stored();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  dark.addEventListener("change", changed);

  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      const next = shown() === "dark" ? "light" : "dark";
      const system = dark.matches ? "dark" : "light";
      try {
        if (next === system) localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, next);
      } catch {
        // It holds until the page is closed.
      }
      if (next === system) delete root.dataset.theme;
      else root.dataset.theme = next;
      changed();
    });
  });
})();
