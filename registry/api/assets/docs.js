// Starts Swagger UI on our own document. Nothing is fetched from anywhere else: no validator badge.
window.addEventListener("DOMContentLoaded", () => {
  window.SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    docExpansion: "list",
    displayRequestDuration: true,
    filter: true,
    validatorUrl: null,
  });
});
