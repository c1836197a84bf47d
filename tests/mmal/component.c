/* Components and the connections between them. Only tunnelled connections: frames pass inside the firmware and
   no buffer is seen on the way, so the simulation carries a frame's number along and paints it at the end. */
#define _GNU_SOURCE
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *name; sim_kind kind; unsigned inputs, outputs; } COMPONENTS[] = {
    {"vc.ril.camera", KIND_CAMERA, 0, 3},        {"vc.camera_info", KIND_CAMERA_INFO, 0, 0},
    {"vc.ril.video_splitter", KIND_SPLITTER, 1, 4}, {"vc.null_sink", KIND_NULL_SINK, 1, 0},
    {"vc.ril.resize", KIND_RESIZER, 1, 1},
};

static MMAL_PORT_T **create_ports(MMAL_COMPONENT_T *component, unsigned type, unsigned count) {
    MMAL_PORT_T **ports = sim_alloc((count + 1) * sizeof *ports);
    for (unsigned i = 0; i < count; i++) ports[i] = sim_port_create(component, type, i);
    return ports;
}

static MMAL_STATUS_T creation_refused(sim_kind kind) {
    /* No sensor found, or the camera switched off: the firmware then has no such component, and says ENOMEM. */
    if (kind == KIND_CAMERA && sim_setting("MMALSIM_CAMERAS", 1) < 1) return MMAL_ENOMEM;
    return kind == KIND_CAMERA ? sim_refusal("camera") : kind == KIND_RESIZER ? sim_refusal("resizer") : MMAL_SUCCESS;
}

MMAL_STATUS_T mmal_component_create(const char *name, MMAL_COMPONENT_T **result) {
    size_t i = 0, count = sizeof COMPONENTS / sizeof *COMPONENTS;
    while (i < count && strcmp(COMPONENTS[i].name, name)) i++;
    if (i == count) return MMAL_ENOSYS;
    MMAL_STATUS_T status = creation_refused(COMPONENTS[i].kind);
    if (status != MMAL_SUCCESS) return status;

    MMAL_COMPONENT_T *component = sim_alloc(sizeof *component);
    component->name = strdup(name);
    component->priv = sim_alloc(sizeof *component->priv);
    component->priv->kind = COMPONENTS[i].kind;
    component->control = sim_port_create(component, MMAL_PORT_TYPE_CONTROL, 0);
    component->input_num = COMPONENTS[i].inputs;
    component->input = create_ports(component, MMAL_PORT_TYPE_INPUT, component->input_num);
    component->output_num = COMPONENTS[i].outputs;
    component->output = create_ports(component, MMAL_PORT_TYPE_OUTPUT, component->output_num);
    if (component->priv->kind == KIND_CAMERA) component->priv->camera = sim_camera_create(component);
    *result = component;
    return MMAL_SUCCESS;
}

static void destroy_ports(MMAL_PORT_T **ports, unsigned count) {
    for (unsigned i = 0; i < count; i++) sim_port_destroy(ports[i]);
    free(ports);
}

MMAL_STATUS_T mmal_component_destroy(MMAL_COMPONENT_T *component) {
    mmal_component_disable(component);
    destroy_ports(component->input, component->input_num);
    destroy_ports(component->output, component->output_num);
    if (component->priv->camera) sim_camera_destroy(component->priv->camera);
    component->priv->camera = NULL;
    sim_port_destroy(component->control);
    free(component->priv);
    free((char *)component->name);
    free(component);
    return MMAL_SUCCESS;
}

MMAL_STATUS_T mmal_component_enable(MMAL_COMPONENT_T *component) {
    MMAL_STATUS_T status = MMAL_SUCCESS;
    if (component->priv->camera) status = sim_refusal("enable");
    if (status == MMAL_SUCCESS && component->priv->camera) status = sim_camera_start(component->priv->camera);
    if (status == MMAL_SUCCESS) component->is_enabled = 1;
    return status;
}

MMAL_STATUS_T mmal_component_disable(MMAL_COMPONENT_T *component) {
    if (component->priv->camera) sim_camera_stop(component->priv->camera);
    component->is_enabled = 0;
    return MMAL_SUCCESS;
}

/* ---- connections ---- */

MMAL_STATUS_T mmal_connection_create(MMAL_CONNECTION_T **result, MMAL_PORT_T *out, MMAL_PORT_T *in, uint32_t flags) {
    if (!(flags & MMAL_CONNECTION_FLAG_TUNNELLING)) return MMAL_ENOSYS;
    MMAL_CONNECTION_T *connection = sim_alloc(sizeof *connection);
    char name[200];
    snprintf(name, sizeof name, "%s/%s", out->name, in->name);
    connection->name = strdup(name);
    connection->out = out;
    connection->in = in;
    connection->flags = flags;
    *result = connection;
    return MMAL_SUCCESS;
}

static void link_ports(MMAL_PORT_T *port, MMAL_PORT_T *peer) {
    port->priv->peer = peer;
    port->is_enabled = peer != NULL;
}

/* A camera that another process holds lets its component be made and set up, and refuses here, at the null sink:
   "Failed to enable connection: Out of resources" is what users report. */
MMAL_STATUS_T mmal_connection_enable(MMAL_CONNECTION_T *connection) {
    MMAL_STATUS_T status = sim_refusal("connection");
    sim_camera *camera = connection->out->component->priv->camera;
    pthread_mutex_lock(&sim_lock);
    if (status == MMAL_SUCCESS && camera) status = sim_camera_take(camera);
    if (status == MMAL_SUCCESS) {
        link_ports(connection->out, connection->in);
        link_ports(connection->in, connection->out);
        connection->in->component->is_enabled = 1;
        connection->is_enabled = 1;
    }
    pthread_mutex_unlock(&sim_lock);
    return status;
}

MMAL_STATUS_T mmal_connection_disable(MMAL_CONNECTION_T *connection) {
    pthread_mutex_lock(&sim_lock);
    link_ports(connection->out, NULL);
    link_ports(connection->in, NULL);
    connection->is_enabled = 0;
    pthread_mutex_unlock(&sim_lock);
    return MMAL_SUCCESS;
}

MMAL_STATUS_T mmal_connection_destroy(MMAL_CONNECTION_T *connection) {
    if (connection->is_enabled) mmal_connection_disable(connection);
    free((char *)connection->name);
    free(connection);
    return MMAL_SUCCESS;
}
