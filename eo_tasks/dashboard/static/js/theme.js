/** Light or dark: as the system is until one is chosen. Runs before anything is drawn, so it is no module. */

(() => {
  const KEY = "theme";
  const CHOICES = ["system", "light", "dark"];
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = localStorage.getItem(KEY);
  if (!CHOICES.includes(chosen)) chosen = "system";

  const use = () => {
    const isDark = chosen === "dark" || (chosen === "system" && system.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    document.dispatchEvent(new Event("theme"));
  };
  use();
  system.addEventListener("change", use);

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.textContent = `Theme: ${chosen}`;
    button.addEventListener("click", () => {
      chosen = CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length];
      localStorage.setItem(KEY, chosen);
      button.textContent = `Theme: ${chosen}`;
      use();
    });
  });
})();
