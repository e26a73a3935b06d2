// Light or dark: the system's choice until the viewer makes another.

const dark = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  try {
    return localStorage.getItem("warmq-theme");
  } catch {
    return null; // Storage is off.
  }
}

export function useTheme() {
  const apply = () => (document.documentElement.dataset.theme = chosen() ?? (dark.matches ? "dark" : "light"));
  apply();
  dark.addEventListener("change", apply);
}

export function toggleTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("warmq-theme", theme);
  } catch {
    // It lasts until the page is closed.
  }
}
