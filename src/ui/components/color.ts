/** A colour as a canvas takes it: of `light-dark()` and variables it knows nothing, an element's own style does. */
export function cssColor(element: HTMLElement, value: string): string {
  const before = element.style.color;
  element.style.color = value;
  const { color } = getComputedStyle(element);
  element.style.color = before;
  return color;
}
